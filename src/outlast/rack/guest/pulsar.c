/* pulsar: a kernel of a few KiB that does nothing but sign its disk.
 *
 * It proves what a pool did with a VM: which boots there were, that no acknowledged write was lost
 * and that never two of them wrote at once. record.h says what it writes, signer.h what it prints.
 * More lines:
 *
 *     BOOT BOOT-ID pulsar         at once, before anything slow
 *     T BOOT-ID N                 instead of W, when there is no disk (or one under 129 KiB)
 *     MEMORY BOOT-ID PAGE         a page of the memory load lost its last value
 *     POWEROFF BOOT-ID            the power button was pressed; the machine goes off
 *     CRASH BOOT-ID               somebody asked for it; the machine resets
 *     STOP BOOT-ID REASON         this machine cannot be used
 *
 * Words of the command line: ms=N period of the writes (100) · lines=N a W line for every Nth
 * write (1; 0: none) · dirty=N rewrites N MiB of memory every 50 ms, and looks that nothing of it
 * got lost · echo characters from COM1 come back; there Ctrl-X crashes and Ctrl-D powers off ·
 * nonce=TEXT stirs the boot id.
 */
#include "machine.h"
#include "signer.h"
#include "text.h"

#define PERIOD_MS 100
#define PERIOD_MS_MAX 3600000
#define LOAD_START 0x200000u /* the memory load begins here; the kernel is far below */
#define LOAD_PERIOD_US 50000
#define PAGE 4096u
#define CTRL_D 4
#define CTRL_X 24

struct multiboot {
    uint32_t flags, memory_lower_kib, memory_upper_kib, boot_device;
    const char *cmdline;
};

static struct signer signer;
static const char *cmdline = "";
static int echo;
static uint32_t load_pages, load_round;
static uint64_t load_due_us;

static void say(const char *keyword, const char *words)
{
    struct line line;
    line_start(&line, keyword, signer.boot);
    line_text(&line, words);
    line_char(&line, '\n');
    console_write(line.text, line.used);
}

static void say_count(const char *keyword, uint64_t number)
{
    struct line line;
    line_start(&line, keyword, signer.boot);
    line_char(&line, ' ');
    line_number(&line, number);
    line_char(&line, '\n');
    console_write(line.text, line.used);
}

/* Behind `word` where it begins a word of the command line (its first is the kernel's path). */
static const char *find_word(const char *word)
{
    for (const char *at = cmdline; *at; at++) {
        const char *a = at + 1, *b = word;
        while (*at == ' ' && *b && *a == *b)
            a++, b++;
        if (!*b)
            return a;
    }
    return 0;
}

static int has_word(const char *word)
{
    const char *behind = find_word(word);
    return behind && (*behind == 0 || *behind == ' ');
}

/* The number behind `word`; `otherwise` when the word is missing. Stops at a billion. */
static uint32_t number_of(const char *word, uint32_t otherwise)
{
    const char *at = find_word(word);
    uint32_t value = 0;
    if (!at)
        return otherwise;
    for (; *at >= '0' && *at <= '9' && value < 100000000; at++)
        value = value * 10 + (uint32_t)(*at - '0');
    return value;
}

static void plan_load(const struct multiboot *info)
{
    uint32_t end = 0x100000 + (info->memory_upper_kib << 10);
    uint32_t room = info->flags & 1 && end > LOAD_START ? (end - LOAD_START) / PAGE : 0;
    uint32_t mib = number_of("dirty=", 0);
    uint32_t wanted = mib < 4096 ? mib * 256 : 0xFFFFF;
    load_pages = wanted < room ? wanted : room;
}

/* Each round writes its number into every page, after looking for the number of the round before:
 * a migration that loses a page is seen within one round. */
static void work_memory(void)
{
    for (uint32_t i = 0; i < load_pages; i++) {
        volatile uint32_t *page = (uint32_t *)(LOAD_START + i * PAGE);
        if (load_round && *page != load_round)
            say_count("MEMORY", i);
        *page = load_round + 1;
    }
    load_round++;
}

static void serve_console(void)
{
    for (int c; (c = serial_next()) >= 0;) {
        char text[2] = { (char)c, '\n' };
        if (!echo)
            continue;
        if (c == CTRL_X) {
            say("CRASH", "");
            crash();
        }
        if (c == CTRL_D)
            power_pressed = 1;
        console_write(text, c == '\r' ? 2 : 1);
    }
}

void attend(void)
{
    serve_console();
    if (power_pressed) {
        say("POWEROFF", "");
        power_off();
    }
    if (load_pages && uptime_us() >= load_due_us) {
        work_memory();
        load_due_us = uptime_us() + LOAD_PERIOD_US;
    }
}

uint64_t salt(void)
{
    return cycles();
}

static void wait_until(uint64_t due_us)
{
    for (;;) {
        attend();
        __asm__ volatile("cli");
        uint64_t now = uptime_us();
        if (now >= due_us)
            break;
        uint64_t us = due_us - now;
        sleep_once(load_pages ? LOAD_PERIOD_US : us >> 20 ? 1u << 20 : (uint32_t)us);
        __asm__ volatile("sti");
    }
    __asm__ volatile("sti");
}

/* One step in every period; periods that were missed are not made up for. */
static void run(uint64_t sectors, uint32_t period_us)
{
    uint64_t due_us = uptime_us();
    int open = 0;
    for (uint32_t round = 0;; round++) {
        if (sectors < SECTORS_MIN && signer.line_every && round % signer.line_every == 0)
            say_count("T", round);
        if (sectors >= SECTORS_MIN && (open || (open = signer_open(&signer, sectors))))
            signer_step(&signer);
        due_us += period_us;
        if (uptime_us() > due_us)
            due_us = uptime_us();
        wait_until(due_us);
    }
}

void pulsar(const struct multiboot *info)
{
    if (info->flags & 4)
        cmdline = info->cmdline;
    platform_start();
    serial_start();
    if (!power_ports) {
        say("STOP", " this kernel needs the machine type pc");
        halt();
    }
    draw_boot_id(cmdline, signer.boot);
    say("BOOT", " pulsar");
    clock_start();
    uint32_t period_ms = number_of("ms=", PERIOD_MS);
    if (period_ms < 1 || period_ms > PERIOD_MS_MAX)
        period_ms = PERIOD_MS;
    echo = has_word("echo");
    signer.line_every = number_of("lines=", 1);
    plan_load(info);
    run(disk_start(), period_ms * 1000);
}
