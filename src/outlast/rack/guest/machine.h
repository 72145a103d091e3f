/* The bare PC under pulsar: ports, interrupts, and what its parts offer each other.
 *
 * Machine "pc" (PIIX4 power management, 8259 interrupt controllers, local APIC), COM1, and one
 * virtio-blk-pci with the legacy interface on the root bus.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint16_t in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline uint64_t cycles(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* platform.c: tables, interrupts, PCI, power */
extern volatile int power_pressed;
extern uint16_t power_ports; /* I/O base of PIIX4 power management; 0: not there */
void platform_start(void);
void allow_irq(uint8_t irq);
uint32_t pci_find(uint32_t id);
uint32_t pci_read(uint32_t device, uint8_t at);
void pci_write(uint32_t device, uint8_t at, uint32_t value);
__attribute__((noreturn)) void power_off(void);
__attribute__((noreturn)) void crash(void);
__attribute__((noreturn)) void halt(void);

/* clock.c: time since the kernel began, wall clock, the wake-up timer */
void clock_start(void);
uint64_t uptime_us(void);
uint64_t wall_us(void);
void read_calendar(uint8_t fields[6]);
void timer_done(void);
void sleep_once(uint32_t us_max); /* returns after any interrupt; call with interrupts off */

/* serial.c: COM1 */
void serial_start(void);
void serial_receive(void);
int serial_next(void); /* the next received character, or -1 */
void console_write(const char *text, uint32_t size);

/* disk.c: virtio-blk; disk_read and disk_write are declared in signer.h */
uint64_t disk_start(void); /* sectors, 0 when there is no disk */
void disk_interrupt(void);

/* entropy.c */
void draw_boot_id(const char *cmdline, uint8_t boot[16]);

/* pulsar.c: serves power button, console and memory load; called wherever the kernel waits */
void attend(void);

#endif
