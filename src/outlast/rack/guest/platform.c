/* Start-up code, interrupts, PCI configuration space and the power button.
 *
 * One handler serves every interrupt: it looks at each device and acknowledges all controllers.
 * An exception finds no gate and resets the machine (triple fault).
 */
#include "machine.h"

#define VECTORS 64
#define VECTOR_IRQ 32
#define POWER_IRQ 9
#define POWER_BUTTON 0x100  /* bit of the PM1 status and enable registers */
#define SLEEP_NOW 0x2000    /* PM1 control: enter sleep type 0, which is "off" on PIIX4 */
#define PIIX4_POWER 0x71138086

__asm__(".section .multiboot, \"a\"\n"
        ".align 4\n"
        ".long 0x1BADB002, 3, -(0x1BADB002 + 3)\n" /* wants page alignment and memory sizes */
        ".text\n"
        ".globl entry\n"
        "entry: cli\n"
        "  mov $stack_end, %esp\n"
        "  push %ebx\n" /* multiboot information */
        "  call pulsar\n"
        "interrupt_gate: pusha\n"
        "  cld\n"
        "  call interrupt\n"
        "  popa\n"
        "  iret\n"
        ".bss\n"
        ".align 16\n"
        ".skip 16384\n"
        "stack_end:\n"
        ".text\n");

extern void interrupt_gate(void);
void interrupt(void);

struct gate {
    uint16_t offset_low, selector, type, offset_high;
};

struct __attribute__((packed)) table {
    uint16_t limit;
    const void *base;
};

static const uint64_t segments[3] = { 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF }; /* all 4 GiB */
static struct gate gates[VECTORS];

volatile int power_pressed;
uint16_t power_ports;

void *memset(void *to, int value, uint32_t size)
{
    uint8_t *at = to;
    while (size--)
        *at++ = (uint8_t)value;
    return to;
}

void *memcpy(void *to, const void *from, uint32_t size)
{
    uint8_t *at = to;
    const uint8_t *source = from;
    while (size--)
        *at++ = *source++;
    return to;
}

static void look_at_button(void)
{
    if (power_ports && in16(power_ports) & POWER_BUTTON) {
        out16(power_ports, POWER_BUTTON); /* writing the bit clears it */
        power_pressed = 1;
    }
}

void interrupt(void)
{
    disk_interrupt();
    serial_receive();
    look_at_button();
    timer_done();
    out8(0xA0, 0x20); /* end of interrupt, whichever controller it was */
    out8(0x20, 0x20);
}

static void load_tables(void)
{
    struct table segment_table = { sizeof segments - 1, segments };
    struct table gate_table = { sizeof gates - 1, gates };
    for (int i = VECTOR_IRQ; i < VECTORS; i++) {
        uint32_t code = (uint32_t)interrupt_gate;
        gates[i] = (struct gate){ (uint16_t)code, 8, 0x8E00, (uint16_t)(code >> 16) };
    }
    __asm__ volatile("lgdt %0\n ljmp $8, $1f\n"
                     "1: mov %2, %%ds\n mov %2, %%es\n mov %2, %%ss\n lidt %1"
                     ::"m"(segment_table), "m"(gate_table), "r"(16) : "memory");
}

/* Both 8259: vectors from 32 on, everything masked but the cascade. */
static void start_controllers(void)
{
    static const uint8_t words[2][4] = {
        { 0x11, VECTOR_IRQ, 4, 1 },
        { 0x11, VECTOR_IRQ + 8, 2, 1 },
    };
    for (int i = 0; i < 2; i++) {
        uint16_t port = i ? 0xA0 : 0x20;
        out8(port, words[i][0]);
        for (int k = 1; k < 4; k++)
            out8(port + 1, words[i][k]);
    }
    out8(0x21, (uint8_t)~4);
    out8(0xA1, 0xFF);
}

void allow_irq(uint8_t irq)
{
    uint16_t port = irq < 8 ? 0x21 : 0xA1;
    out8(port, in8(port) & ~(1 << (irq & 7)));
}

uint32_t pci_read(uint32_t device, uint8_t at)
{
    out32(0xCF8, 0x80000000 | device << 8 | at);
    return in32(0xCFC);
}

void pci_write(uint32_t device, uint8_t at, uint32_t value)
{
    out32(0xCF8, 0x80000000 | device << 8 | at);
    out32(0xCFC, value);
}

/* Looks on the root bus for (device << 16 | vendor); 0 when it is not there (0 is the bridge). */
uint32_t pci_find(uint32_t id)
{
    for (uint32_t device = 1; device < 256; device++)
        if (pci_read(device, 0) == id)
            return device;
    return 0;
}

static void start_power(void)
{
    uint32_t device = pci_find(PIIX4_POWER);
    if (!device)
        return;
    power_ports = pci_read(device, 0x40) & 0xFFC0;
    out16(power_ports + 2, POWER_BUTTON);
    allow_irq(POWER_IRQ);
}

void platform_start(void)
{
    load_tables();
    start_controllers();
    start_power();
}

void halt(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

void power_off(void)
{
    out16(power_ports + 4, SLEEP_NOW);
    halt();
}

void crash(void)
{
    static const struct table nothing;
    __asm__ volatile("lidt %0; int3" ::"m"(nothing));
    halt();
}
