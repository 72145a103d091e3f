/* sentinel: the first process of a small Linux guest; signs the disk like pulsar, and offers a
 * shell on the console. record.h says what it writes, signer.h what it prints. More lines:
 *
 *     BOOT BOOT-ID sentinel       at once
 *     STOP BOOT-ID REASON         no disk, or one under 129 KiB: nothing is signed
 *     POWEROFF BOOT-ID            power button, or `poweroff` in the shell
 *
 * Words of the kernel's command line: ms=N period of the writes (100) · lines=N a W line for every
 * Nth write (1; 0: none, for a shell one can read) · disk=PATH (/dev/vda) · noshell.
 *
 * Beside it the initramfs holds /modules, whose list names the kernel modules in the order of
 * their need, and /bin/busybox; a program /agent is started as well, where it is there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/input.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"
#include "signer.h"
#include "text.h"

#define PERIOD_MS 100
#define PERIOD_MS_MAX 3600000
#define DISK_WAIT_MS 10000

static struct signer signer;
static char cmdline[4096];
static int disk = -1, lines = STDOUT_FILENO;

static uint64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t uptime_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

uint64_t wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

uint64_t salt(void)
{
    return __builtin_ia32_rdtsc();
}

/* A console that is open and not read must never stop the writes: it gives up after 20 ms. */
void console_write(const char *text, uint32_t size)
{
    for (int tries = 0; size && tries < 20; tries++) {
        ssize_t sent = write(lines, text, size);
        if (sent > 0)
            text += sent, size -= (uint32_t)sent;
        else
            usleep(1000);
    }
}

int disk_read(uint32_t sector, void *to)
{
    return pread(disk, to, SECTOR, (off_t)sector * SECTOR) != SECTOR;
}

int disk_write(uint32_t sector, const void *from)
{
    return pwrite(disk, from, SECTOR, (off_t)sector * SECTOR) != SECTOR;
}

static void say(const char *keyword, const char *words)
{
    struct line line;
    line_start(&line, keyword, signer.boot);
    line_text(&line, words);
    line_char(&line, '\n');
    console_write(line.text, line.used);
}

/* Behind `word` where it begins a word of the command line, or null. */
static const char *find_word(const char *word)
{
    const char *at = cmdline;
    while ((at = strstr(at, word))) {
        if (at == cmdline || at[-1] == ' ')
            return at + strlen(word);
        at++;
    }
    return NULL;
}

static int has_word(const char *word)
{
    const char *behind = find_word(word);
    return behind && (*behind == 0 || *behind == ' ');
}

/* The number behind `word`; `otherwise` when the word is missing. */
static unsigned long number_of(const char *word, unsigned long otherwise)
{
    const char *at = find_word(word);
    return at ? strtoul(at, NULL, 10) : otherwise;
}

static void prepare_files(void)
{
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("tmp", "/tmp", "tmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; console >= 0 && fd < 3; fd++)
        dup2(console, fd);
    int unblocked = open("/dev/console", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (unblocked >= 0)
        lines = unblocked;
    int file = open("/proc/cmdline", O_RDONLY);
    ssize_t size = file < 0 ? 0 : read(file, cmdline, sizeof cmdline - 1);
    if (size > 0)
        cmdline[strcspn(cmdline, "\n")] = 0;
    if (file >= 0)
        close(file);
}

static void draw_boot_id(void)
{
    struct {
        uint8_t random[32];
        uint64_t values[3];
    } pot = { .values = { wall_us(), uptime_us(), salt() } };
    uint8_t digest[32];
    if (getrandom(pot.random, sizeof pot.random, GRND_NONBLOCK) < 0)
        pot.values[0] ^= salt() << 32; /* too early for the kernel: the clocks must do */
    sha256(&pot, sizeof pot, digest);
    memcpy(signer.boot, digest, sizeof signer.boot);
}

static void load_module(const char *name)
{
    char path[320];
    snprintf(path, sizeof path, "/modules/%s", name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST))
        fprintf(stderr, "module %s: %s\n", name, strerror(errno));
    if (file >= 0)
        close(file);
}

static void load_modules(void)
{
    char name[256];
    FILE *list = fopen("/modules/list", "r");
    while (list && fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        load_module(name);
    }
    if (list)
        fclose(list);
}

static void power(int how)
{
    if (how == RB_POWER_OFF)
        say("POWEROFF", "");
    sync();
    reboot(how);
}

/* What busybox's poweroff and reboot send to the first process. */
static void on_signal(int signal)
{
    power(signal == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
}

static void watch_button(const char *path)
{
    struct input_event event;
    int file = open(path, O_RDONLY);
    if (file < 0 || fork())
        return;
    while (read(file, &event, sizeof event) == sizeof event)
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
            power(RB_POWER_OFF);
    _exit(0);
}

static void watch_buttons(void)
{
    char path[300];
    DIR *inputs = opendir("/dev/input");
    for (struct dirent *entry; inputs && (entry = readdir(inputs));) {
        snprintf(path, sizeof path, "/dev/input/%s", entry->d_name);
        if (!strncmp(entry->d_name, "event", 5))
            watch_button(path);
    }
    if (inputs)
        closedir(inputs);
}

static void run_busybox(char *const words[])
{
    setenv("PATH", "/bin", 1);
    setenv("HOME", "/tmp", 1);
    setenv("PS1", "sentinel# ", 1);
    setsid();
    ioctl(STDIN_FILENO, TIOCSCTTY, 1);
    execv("/bin/busybox", words);
    _exit(127);
}

/* A shell that comes back when it is left. */
static void offer_shell(void)
{
    static char *const install[] = { "busybox", "--install", "-s", "/bin", NULL };
    static char *const shell[] = { "sh", NULL };
    if (has_word("noshell") || access("/bin/busybox", X_OK) || fork())
        return;
    signal(SIGCHLD, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    for (char *const *words = install;; words = shell) {
        pid_t child = fork();
        if (child == 0)
            run_busybox(words);
        waitpid(child, NULL, 0);
    }
}

static void start_agent(void)
{
    if (access("/agent", X_OK) || fork())
        return;
    signal(SIGCHLD, SIG_DFL);
    execl("/agent", "/agent", NULL);
    _exit(127);
}

/* Opens the disk and tells its sectors; 0 when none came up in time. */
static uint64_t open_disk(void)
{
    char path[64] = "/dev/vda";
    uint64_t bytes = 0, end = uptime_us() + DISK_WAIT_MS * 1000;
    const char *wanted = find_word("disk=");
    if (wanted)
        snprintf(path, sizeof path, "%.*s", (int)strcspn(wanted, " "), wanted);
    while (disk < 0 && uptime_us() < end) {
        disk = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
        if (disk < 0)
            usleep(10000);
    }
    return disk >= 0 && !ioctl(disk, BLKGETSIZE64, &bytes) ? bytes / SECTOR : 0;
}

/* One step in every period; periods that were missed are not made up for. */
static void run(uint64_t sectors, uint64_t period_us)
{
    uint64_t due_us = uptime_us();
    for (int open = 0;;) {
        if (open || (open = signer_open(&signer, sectors)))
            signer_step(&signer);
        due_us += period_us;
        if (uptime_us() > due_us)
            due_us = uptime_us();
        struct timespec due = { (time_t)(due_us / 1000000), (long)(due_us % 1000000) * 1000 };
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
    }
}

int main(void)
{
    prepare_files();
    draw_boot_id();
    say("BOOT", " sentinel");
    signal(SIGCHLD, SIG_IGN); /* the kernel buries the orphans */
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    signal(SIGTERM, on_signal);
    load_modules();
    watch_buttons();
    offer_shell();
    start_agent();
    uint64_t period_ms = number_of("ms=", PERIOD_MS);
    if (period_ms < 1 || period_ms > PERIOD_MS_MAX)
        period_ms = PERIOD_MS;
    signer.line_every = (uint32_t)number_of("lines=", 1);
    uint64_t sectors = open_disk();
    if (sectors < SECTORS_MIN) {
        say("STOP", " no disk of at least 129 KiB");
        for (;;)
            pause();
    }
    run(sectors, period_ms * 1000);
}
