/* A Modbus TCP server as libmodbus's own example has it: select over all connections, 5000 holding registers. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_t *modbus = modbus_new_tcp("127.0.0.1", argc > 1 ? atoi(argv[1]) : 0);
    modbus_mapping_t *mapping = modbus_mapping_new(0, 0, 5000, 0);
    int listener = modbus_tcp_listen(modbus, 64), most = listener;
    fd_set all, ready;

    if (mapping == NULL || listener < 0)
        return 1;
    FD_ZERO(&all);
    FD_SET(listener, &all);
    puts("listening");
    fflush(stdout);
    for (;;) {
        ready = all;
        if (select(most + 1, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd <= most; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = modbus_tcp_accept(modbus, &listener);
                if (client < 0)
                    return 1;
                FD_SET(client, &all);
                most = client > most ? client : most;
                continue;
            }
            modbus_set_socket(modbus, fd);
            int length = modbus_receive(modbus, query);
            if (length > 0) {
                modbus_reply(modbus, query, length, mapping);
            } else if (length < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}
