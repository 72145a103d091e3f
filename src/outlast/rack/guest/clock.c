/* Time. The PIIX4 power management timer counts (3.579545 MHz, 24 bits, stands still while the VM
 * is paused, moves with a migration); the local APIC wakes the processor; the calendar chip tells
 * the date. */
#include "machine.h"
#include "text.h"

#define PM_BITS 0xFFFFFF
#define PM_TICK 1199864032u    /* microseconds a tick, times 2^32 */
#define SLEEP_MAX_US 1000000u  /* the 24-bit counter must be read every 4.6 s */
#define CALIBRATION_US 2000u

#define APIC(register) (*(volatile uint32_t *)(0xFEE00000 + (register)))
#define APIC_END 0x0B0
#define APIC_SPURIOUS 0x0F0
#define APIC_TIMER 0x320
#define APIC_LINT0 0x350
#define APIC_COUNT 0x380
#define APIC_NOW 0x390
#define APIC_DIVIDE 0x3E0
#define VECTOR_TIMER 48
#define VECTOR_SPURIOUS 63

static uint32_t pm_last, fraction, apic_per_ms;
static uint64_t now_us;

/* Microseconds since clock_start. Not for the interrupt handler. */
uint64_t uptime_us(void)
{
    uint32_t pm = in32(power_ports + 8) & PM_BITS;
    uint64_t gone = (uint64_t)((pm - pm_last) & PM_BITS) * PM_TICK + fraction;
    pm_last = pm;
    fraction = (uint32_t)gone;
    return now_us += gone >> 32;
}

void clock_start(void)
{
    pm_last = in32(power_ports + 8) & PM_BITS;
    APIC(APIC_SPURIOUS) = 0x100 | VECTOR_SPURIOUS;
    APIC(APIC_LINT0) = 0x700; /* the 8259 comes in here */
    APIC(APIC_DIVIDE) = 3;    /* by 16 */
    APIC(APIC_TIMER) = VECTOR_TIMER;
    APIC(APIC_COUNT) = 0xFFFFFFFF;
    while (uptime_us() < CALIBRATION_US)
        ;
    apic_per_ms = (0xFFFFFFFF - APIC(APIC_NOW)) / (CALIBRATION_US / 1000);
    APIC(APIC_COUNT) = 0;
}

void timer_done(void)
{
    APIC(APIC_END) = 0;
}

void sleep_once(uint32_t us_max)
{
    uint32_t rest, us = us_max < SLEEP_MAX_US ? us_max : SLEEP_MAX_US;
    APIC(APIC_COUNT) = (uint32_t)divided((uint64_t)us * apic_per_ms, 1000, &rest) + 1;
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}

static uint8_t calendar_register(uint8_t at)
{
    out8(0x70, at);
    uint8_t bcd = in8(0x71);
    return (uint8_t)((bcd >> 4) * 10 + (bcd & 15));
}

/* Second, minute, hour, day, month, year of the century; read until two readings agree. */
void read_calendar(uint8_t fields[6])
{
    static const uint8_t registers[6] = { 0, 2, 4, 7, 8, 9 };
    int changed;
    do {
        changed = 0;
        for (int i = 0; i < 6; i++)
            fields[i] = calendar_register(registers[i]);
        for (int i = 0; i < 6; i++)
            changed |= fields[i] != calendar_register(registers[i]);
    } while (changed);
}

/* Seconds since 1970; good for 2000 to 2099. */
static uint32_t calendar_s(void)
{
    static const uint16_t before[12] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    uint8_t f[6];
    read_calendar(f);
    uint32_t month = f[4] >= 1 && f[4] <= 12 ? f[4] - 1u : 0;
    uint32_t leap = f[5] % 4 == 0 && month >= 2;
    uint32_t days = 10957 + 365u * f[5] + (f[5] + 3u) / 4 + before[month] + leap + f[3] - 1u;
    return ((days * 24 + f[2]) * 60 + f[1]) * 60 + f[0];
}

/* The calendar knows seconds only. The offset is moved just so far that its second and ours agree:
 * after a few calls the error is the distance between calls. */
uint64_t wall_us(void)
{
    static uint64_t offset;
    uint64_t second = (uint64_t)calendar_s() * 1000000, up = uptime_us();
    if (offset + up < second)
        offset = second - up;
    else if (offset + up > second + 999999)
        offset = second + 999999 - up;
    return offset + up;
}
