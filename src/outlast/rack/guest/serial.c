/* COM1, 115200 8N1. A console that is open and not read must never stop the writes: sending gives
 * up, and lines get lost or torn. */
#include "machine.h"

#define COM1 0x3F8
#define LINE_STATUS (COM1 + 5)
#define RECEIVED 0x01
#define CAN_SEND 0x20
#define ABSENT 0xFF
#define PATIENCE 20000 /* readings of the line status: some 20 ms */
#define SERIAL_IRQ 4

static volatile uint8_t received[256], in_at, out_at; /* a ring: the 8-bit indexes wrap */

void serial_start(void)
{
    static const uint8_t setup[][2] = {
        { 3, 0x80 }, { 0, 1 }, { 1, 0 }, /* divisor 1 */
        { 3, 0x03 }, { 2, 0x07 },        /* 8N1, FIFO with an interrupt for each byte */
        { 4, 0x0B }, { 1, 0x01 },        /* ready, interrupt on reception */
    };
    for (unsigned i = 0; i < sizeof setup / sizeof setup[0]; i++)
        out8(COM1 + setup[i][0], setup[i][1]);
    allow_irq(SERIAL_IRQ);
}

void serial_receive(void)
{
    uint8_t status = in8(LINE_STATUS);
    while (status != ABSENT && status & RECEIVED) {
        received[in_at++] = in8(COM1);
        status = in8(LINE_STATUS);
    }
}

int serial_next(void)
{
    return out_at == in_at ? -1 : received[out_at++];
}

/* Waits for room; only once for a reader that has stopped reading, until it reads again. */
static int can_send(void)
{
    static int given_up;
    int patience = given_up ? 1 : PATIENCE;
    do {
        if (in8(LINE_STATUS) & CAN_SEND) {
            given_up = 0;
            return 1;
        }
    } while (--patience);
    given_up = 1;
    return 0;
}

void console_write(const char *text, uint32_t size)
{
    for (; size && can_send(); size--, text++)
        out8(COM1, (uint8_t)*text);
}
