/* The boot id: SHA-256 over everything that may differ between two boots.
 *
 * Two QEMUs started at the same instant for the same VM differ in the cycle counter, in the jitter
 * of counter against timer, in RDRAND where there is one, and in `nonce=` if somebody gives it;
 * two VMs differ in their UUID as well.
 */
#include "machine.h"
#include "sha256.h"

#define SAMPLES 64
#define CONFIG_SELECT 0x510 /* QEMU's firmware configuration device */
#define CONFIG_DATA 0x511
#define CONFIG_SIGNATURE 0
#define CONFIG_UUID 2

static struct {
    uint32_t used;
    uint8_t bytes[2048];
} pot;

static void add(const void *data, uint32_t size)
{
    const uint8_t *at = data;
    while (size-- && pot.used < sizeof pot.bytes)
        pot.bytes[pot.used++] = *at++;
}

static void read_config(uint16_t key, uint8_t *to, uint32_t size)
{
    out16(CONFIG_SELECT, key);
    while (size--)
        *to++ = in8(CONFIG_DATA);
}

static void add_uuid(void)
{
    uint8_t bytes[16];
    read_config(CONFIG_SIGNATURE, bytes, 4);
    if (bytes[0] != 'Q' || bytes[1] != 'E' || bytes[2] != 'M' || bytes[3] != 'U')
        return;
    read_config(CONFIG_UUID, bytes, sizeof bytes);
    add(bytes, sizeof bytes);
}

static int has_rdrand(void)
{
    uint32_t a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return c >> 30 & 1;
}

static void add_rdrand(void)
{
    for (int i = 0; i < 8 && has_rdrand(); i++) {
        uint32_t value;
        __asm__ volatile("rdrand %0" : "=r"(value)::"cc");
        add(&value, sizeof value);
    }
}

/* How many cycles a reading of the old timer takes: the noise of the host below. */
static void add_jitter(void)
{
    for (int i = 0; i < SAMPLES; i++) {
        uint8_t timer[3];
        out8(0x43, 0);
        timer[0] = in8(0x40);
        timer[1] = in8(0x40);
        timer[2] = (uint8_t)in32(power_ports + 8);
        uint64_t now = cycles();
        add(timer, sizeof timer);
        add(&now, sizeof now);
    }
}

void draw_boot_id(const char *cmdline, uint8_t boot[16])
{
    uint8_t calendar[6], digest[32];
    read_calendar(calendar);
    add(calendar, sizeof calendar);
    add_uuid();
    add_rdrand();
    add_jitter();
    uint32_t size = 0;
    while (cmdline[size])
        size++;
    add(cmdline, size);
    sha256(pot.bytes, pot.used, digest);
    for (int i = 0; i < 16; i++)
        boot[i] = digest[i];
}
