/* A sender for the slave protocol that shares no code with bmsd: packs with the C that cantools generates from
 * slave.dbc and computes the CRC itself. Firmware does the same; see docs/slave-protocol.md.
 *
 *   sender < vectors              16-byte struct can_frame per vector on stdout
 *   sender -L < vectors           candump -L lines on stdout
 *   sender [-g US] vcan0 < vectors   onto a SocketCAN interface, US microseconds between frames
 *   sender -u < frames            the way back: struct can_frame on stdin, vectors on stdout
 *   sender -c HEX                 the CRC of some bytes
 *
 * A vector is a line "Message address value value ...": raw values of the signals in order of their start bits,
 * without the CRC; with -p physical values. slave_table.inc (generated beside slave.h) lists messages and fields.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <linux/can.h>
#include <linux/can/raw.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "slave.h"

struct field {
    size_t offset;
    size_t size;
    int is_signed;
    int64_t (*encode)(double);
    double (*decode)(int64_t);
};

struct message {
    const char *name;
    uint32_t can_id;
    size_t length;
    size_t struct_size;
    int (*pack)(uint8_t *, const void *, size_t);
    int (*unpack)(void *, const uint8_t *, size_t);
    const struct field *fields;
    size_t field_count;
};

#include "slave_table.inc"

enum { MESSAGES = sizeof messages / sizeof messages[0], MAX_STRUCT = 256, ADDRESS_MASK = 0x7F };

/* CRC-8/AUTOSAR: polynomial 0x2F, start 0xFF, not reflected, final XOR 0xFF. */
static uint8_t crc8(uint8_t crc, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            const unsigned shifted = (unsigned)crc << 1;
            crc = (uint8_t)((crc & 0x80u) != 0u ? shifted ^ 0x2Fu : shifted);
        }
    }
    return crc;
}

/* CRC of a frame: the 29-bit identifier, most significant byte first, then the data before the CRC. */
static uint8_t frame_crc(uint32_t can_id, const uint8_t *data, size_t length)
{
    const uint8_t id[4] = {(uint8_t)(can_id >> 24), (uint8_t)(can_id >> 16), (uint8_t)(can_id >> 8), (uint8_t)can_id};
    uint8_t crc = crc8(0xFFu, id, sizeof id);
    return crc8(crc, data, length - 1u) ^ 0xFFu;
}

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "sender: %s: %s\n", what, detail);
    exit(2);
}

static void store(uint8_t *structure, const struct field *field, int64_t value)
{
    memcpy(structure + field->offset, &value, field->size); /* for little-endian hosts */
}

static int64_t fetch(const uint8_t *structure, const struct field *field)
{
    int64_t value = 0;
    memcpy(&value, structure + field->offset, field->size);
    if (field->is_signed && field->size < sizeof value) {
        unsigned shift = (unsigned)(8u * (sizeof value - field->size));
        value = (int64_t)((uint64_t)value << shift) >> shift;
    }
    return value;
}

static struct can_frame packed(char *line, int physical)
{
    _Alignas(8) uint8_t structure[MAX_STRUCT] = {0};
    struct can_frame frame;
    const struct message *message = NULL;
    char *rest = NULL, *end = NULL;
    const char *name = strtok_r(line, " \n", &rest);

    for (size_t i = 0; name != NULL && i < MESSAGES; i++) {
        if (strcmp(messages[i].name, name) == 0) {
            message = &messages[i];
        }
    }
    if (message == NULL || message->struct_size > sizeof structure) {
        die("no such message", name == NULL ? "(empty line)" : name);
    }
    const char *address = strtok_r(NULL, " \n", &rest);
    memset(&frame, 0, sizeof frame);
    frame.can_id = message->can_id | (address == NULL ? 0u : ((uint32_t)strtoul(address, NULL, 10) & ADDRESS_MASK));
    for (size_t i = 0; i < message->field_count; i++) {
        const char *text = strtok_r(NULL, " \n", &rest);
        if (text == NULL) {
            die("too few values", message->name);
        }
        const struct field *field = &message->fields[i];
        int64_t raw = physical ? field->encode(strtod(text, &end)) : (int64_t)strtoll(text, &end, 10);
        if (end == text || *end != '\0') {
            die("not a number", text);
        }
        store(structure, field, raw);
    }
    if (strtok_r(NULL, " \n", &rest) != NULL) {
        die("too many values", message->name);
    }
    if (message->pack(frame.data, structure, sizeof frame.data) != (int)message->length) {
        die("does not pack", message->name);
    }
    frame.can_dlc = (uint8_t)message->length;
    frame.data[message->length - 1u] = frame_crc(frame.can_id, frame.data, message->length);
    frame.can_id |= CAN_EFF_FLAG;
    return frame;
}

static int unpacked(const struct can_frame *frame, int physical)
{
    _Alignas(8) uint8_t structure[MAX_STRUCT] = {0};
    uint32_t can_id = frame->can_id & CAN_EFF_MASK;

    for (size_t i = 0; i < MESSAGES; i++) {
        const struct message *message = &messages[i];
        if (message->can_id != (can_id & ~(uint32_t)ADDRESS_MASK) || message->length != frame->can_dlc) {
            continue;
        }
        if (frame_crc(can_id, frame->data, frame->can_dlc) != frame->data[frame->can_dlc - 1u] ||
            message->unpack(structure, frame->data, frame->can_dlc) != 0) {
            return -1;
        }
        printf("%s %u", message->name, can_id & ADDRESS_MASK);
        for (size_t k = 0; k < message->field_count; k++) {
            int64_t raw = fetch(structure, &message->fields[k]);
            if (physical) {
                printf(" %.17g", message->fields[k].decode(raw));
            } else {
                printf(" %" PRId64, raw);
            }
        }
        putchar('\n');
        return 0;
    }
    return -1;
}

static int opened(const char *interface)
{
    struct sockaddr_can where;
    struct ifreq request;
    int bus = socket(PF_CAN, SOCK_RAW, CAN_RAW);

    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
    if (bus < 0 || ioctl(bus, SIOCGIFINDEX, &request) < 0) {
        die(interface, strerror(errno));
    }
    memset(&where, 0, sizeof where);
    where.can_family = AF_CAN;
    where.can_ifindex = request.ifr_ifindex;
    setsockopt(bus, SOL_CAN_RAW, CAN_RAW_FILTER, NULL, 0); /* sends only */
    if (bind(bus, (struct sockaddr *)&where, sizeof where) < 0) {
        die(interface, strerror(errno));
    }
    return bus;
}

static void sent(int bus, const struct can_frame *frame, const char *interface)
{
    while (write(bus, frame, sizeof *frame) != (ssize_t)sizeof *frame) {
        if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR) {
            die(interface, strerror(errno));
        }
        usleep(200);
    }
}

static void print_candump(const struct can_frame *frame)
{
    printf("(0.000000) vcan0 %08X#", frame->can_id & CAN_EFF_MASK);
    for (unsigned i = 0; i < frame->can_dlc; i++) {
        printf("%02X", frame->data[i]);
    }
    putchar('\n');
}

static int print_crc(const char *hex)
{
    uint8_t crc = 0xFFu;
    unsigned byte = 0;
    for (; sscanf(hex, "%2x", &byte) == 1 && hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        const uint8_t one = (uint8_t)byte;
        crc = crc8(crc, &one, 1);
    }
    printf("%02X\n", crc ^ 0xFFu);
    return *hex == '\0' ? 0 : 2;
}

int main(int argc, char **argv)
{
    int candump = 0, physical = 0, unpack = 0, option;
    useconds_t gap_us = 0;
    char *line = NULL;
    size_t room = 0;

    while ((option = getopt(argc, argv, "Lpug:c:")) != -1) {
        switch (option) {
        case 'L': candump = 1; break;
        case 'p': physical = 1; break;
        case 'u': unpack = 1; break;
        case 'g': gap_us = (useconds_t)strtoul(optarg, NULL, 10); break;
        case 'c': return print_crc(optarg);
        default: return 2;
        }
    }
    if (unpack) {
        struct can_frame frame;
        while (fread(&frame, sizeof frame, 1, stdin) == 1) {
            if (unpacked(&frame, physical) != 0) {
                puts("dropped");
            }
        }
        return 0;
    }
    int bus = optind < argc ? opened(argv[optind]) : -1;
    while (getline(&line, &room, stdin) > 0) {
        struct can_frame frame = packed(line, physical);
        if (bus >= 0) {
            sent(bus, &frame, argv[optind]);
            usleep(gap_us);
        } else if (candump) {
            print_candump(&frame);
        } else {
            fwrite(&frame, sizeof frame, 1, stdout);
        }
    }
    free(line);
    return 0;
}
