/* virtio-blk, legacy interface: one request at a time, three descriptors, no features accepted.
 * Without the flush feature the device completes a write only when it is on stable storage. */
#include "machine.h"
#include "signer.h"

#define VIRTIO_BLK 0x10011AF4
#define QUEUE_ENTRIES_MAX 1024
#define PAGE 4096u

/* Registers of the legacy interface, from the I/O base. */
#define GUEST_FEATURES 4
#define QUEUE_PAGE 8
#define QUEUE_ENTRIES 12
#define QUEUE_SELECT 14
#define QUEUE_NOTIFY 16
#define DEVICE_STATUS 18
#define INTERRUPT_STATUS 19
#define CAPACITY 20

#define NEXT 1         /* descriptor flags: another one follows, */
#define DEVICE_FILLS 2 /* and the device writes this one */

struct descriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags, next;
};

struct available {
    uint16_t flags, index, ring[];
};

struct used {
    uint16_t flags, index;
};

/* Three pieces: descriptors, the ring of the driver, and on a page of its own that of the device;
 * one page more, because it is aligned here and not by the linker (which would pad the file). */
static uint8_t room[QUEUE_ENTRIES_MAX * (16 + 2 + 8) + 3 * PAGE];
static struct descriptor *descriptors;
static volatile struct available *available;
static volatile struct used *used;
static uint16_t ports, entries;

static struct {
    uint32_t type, priority;
    uint64_t sector;
} request;
static volatile uint8_t result;

void disk_interrupt(void)
{
    if (ports)
        in8(ports + INTERRUPT_STATUS); /* reading takes the request back */
}

static uint32_t page_up(uint32_t address)
{
    return (address + PAGE - 1) & ~(PAGE - 1);
}

static void place_queue(void)
{
    uint32_t start = page_up((uint32_t)room), ring = start + entries * 16u;
    descriptors = (void *)start;
    available = (void *)ring;
    used = (void *)page_up(ring + 6 + 2u * entries);
    out32(ports + QUEUE_PAGE, start / PAGE);
}

uint64_t disk_start(void)
{
    uint32_t device = pci_find(VIRTIO_BLK);
    if (!device)
        return 0;
    pci_write(device, 4, pci_read(device, 4) | 5); /* I/O space, bus master */
    ports = pci_read(device, 0x10) & 0xFFFC;
    out8(ports + DEVICE_STATUS, 0);
    out8(ports + DEVICE_STATUS, 3); /* seen, driver found */
    out32(ports + GUEST_FEATURES, 0);
    out16(ports + QUEUE_SELECT, 0);
    entries = in16(ports + QUEUE_ENTRIES);
    if (entries < 4 || entries > QUEUE_ENTRIES_MAX)
        return 0;
    place_queue();
    allow_irq((uint8_t)pci_read(device, 0x3C));
    out8(ports + DEVICE_STATUS, 7); /* driver ready */
    return in32(ports + CAPACITY) | (uint64_t)in32(ports + CAPACITY + 4) << 32;
}

/* However long the storage takes: the power button and the console stay served. */
static void wait_for(uint16_t index)
{
    for (;;) {
        __asm__ volatile("cli");
        if (used->index == index)
            break;
        sleep_once(1000000);
        __asm__ volatile("sti");
        attend();
    }
    __asm__ volatile("sti" ::: "memory");
}

static int transfer(uint32_t type, uint32_t sector, void *data)
{
    uint16_t filled = type ? 0 : DEVICE_FILLS, index = available->index;
    request.type = type;
    request.sector = sector;
    result = 0xFF;
    descriptors[0] = (struct descriptor){ (uint32_t)&request, sizeof request, NEXT, 1 };
    descriptors[1] = (struct descriptor){ (uint32_t)data, SECTOR, NEXT | filled, 2 };
    descriptors[2] = (struct descriptor){ (uint32_t)&result, 1, DEVICE_FILLS, 0 };
    available->ring[index % entries] = 0;
    __asm__ volatile("" ::: "memory");
    available->index = ++index;
    out16(ports + QUEUE_NOTIFY, 0);
    wait_for(index);
    return result;
}

int disk_read(uint32_t sector, void *to)
{
    return transfer(0, sector, to);
}

int disk_write(uint32_t sector, const void *from)
{
    return transfer(1, sector, (void *)from);
}
