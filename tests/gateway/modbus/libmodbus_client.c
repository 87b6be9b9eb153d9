/* Reads the test constants, the rack and the heartbeat with libmodbus, and writes a set-point: one line each. */
#include <errno.h>
#include <inttypes.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t whole(const uint16_t *words)
{
    return (uint32_t)words[0] << 16 | words[1];
}

int main(int argc, char **argv)
{
    uint16_t words[MODBUS_MAX_READ_REGISTERS], power[2] = {0xFFFF, 0xEC78};
    modbus_t *modbus = modbus_new_tcp("127.0.0.1", argc > 1 ? atoi(argv[1]) : 0);

    if (modbus == NULL || modbus_set_slave(modbus, 1) < 0 || modbus_connect(modbus) < 0)
        return 1;
    if (modbus_read_registers(modbus, 6, 4, words) != 4)
        return 2;
    printf("constants %08" PRIX32 " %.1f\n", whole(words), (double)modbus_get_float_abcd(words + 2));
    if (modbus_read_input_registers(modbus, 100, 36, words) != 36)
        return 3;
    printf("rack %.1f V %.3f V %d modules\n", (double)modbus_get_float_abcd(words),
           (double)modbus_get_float_abcd(words + 18), words[29]);
    printf("outside %d", modbus_read_registers(modbus, 5000, 1, words));
    printf(" %s\n", modbus_strerror(errno));
    printf("power %d", modbus_write_registers(modbus, 204, 2, power));
    if (modbus_read_registers(modbus, 204, 2, words) != 2)
        return 4;
    printf(" %" PRId32 "\n", (int32_t)whole(words));
    printf("reserve %d\n", modbus_write_register(modbus, 202, 250));
    printf("read-only %d", modbus_write_register(modbus, 100, 1));
    printf(" %s\n", modbus_strerror(errno));
    modbus_close(modbus);
    modbus_free(modbus);
    return 0;
}
