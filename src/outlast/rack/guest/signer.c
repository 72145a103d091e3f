/* See signer.h. Deliberately without any memory of trouble: after an error it tries the same
 * record number again in the next round, for ever. */
#include "signer.h"

#include "sha256.h"
#include "text.h"

static struct record found __attribute__((aligned(512))); /* the sector read last */
static struct record out __attribute__((aligned(512)));   /* the sector being written */

static int same(const void *a, const void *b, uint32_t size)
{
    const uint8_t *x = a, *y = b;
    while (size && *x == *y)
        x++, y++, size--;
    return size == 0;
}

static void copy(void *to, const void *from, uint32_t size)
{
    uint8_t *x = to;
    const uint8_t *y = from;
    while (size--)
        *x++ = *y++;
}

static void finish_line(struct line *line)
{
    line_char(line, '\n');
    console_write(line->text, line->used);
}

static int valid(const struct record *r)
{
    uint8_t digest[32];
    if (!same(r->magic, RING_MAGIC, sizeof r->magic))
        return 0;
    sha256(r, offsetof(struct record, digest), digest);
    return same(digest, r->digest, sizeof digest);
}

static void seal(struct record *r, const char *magic)
{
    copy(r->magic, magic, sizeof r->magic);
    sha256(r, offsetof(struct record, digest), r->digest);
}

/* Reads a ring slot into `found`. False when it holds no record, or (then `unreadable` is set)
 * when the disk refuses. */
static int load(struct signer *s, uint32_t at)
{
    int failed = disk_read(RING_FIRST + at, &found);
    s->unreadable |= failed;
    return !failed && valid(&found);
}

/* Slots of the newest lap hold ascending numbers from slot 0 on; those behind the newest record
 * hold the lap before, or nothing. So bisection finds the end in about 14 reads. */
static int find_newest(struct signer *s)
{
    if (!load(s, 0))
        return 0;
    uint64_t lap = found.seq;
    uint32_t inside = 0, outside = s->slots;
    while (outside - inside > 1) {
        uint32_t middle = inside + (outside - inside) / 2;
        if (load(s, middle) && found.seq == lap + middle)
            inside = middle;
        else
            outside = middle;
    }
    s->at = inside;
    return load(s, inside);
}

static void next_slot(struct signer *s)
{
    s->at = s->at + 1 == s->slots ? 0 : s->at + 1;
    s->seq++;
}

static void say_trouble(const struct signer *s)
{
    struct line line;
    line_start(&line, "IOERR", s->boot);
    line_char(&line, ' ');
    line_number(&line, s->seq);
    finish_line(&line);
}

static void say_disk(const struct signer *s)
{
    struct line line;
    line_start(&line, "DISK", s->boot);
    line_text(&line, " slots ");
    line_number(&line, s->slots);
    line_text(&line, " seq ");
    line_number(&line, s->seq);
    line_text(&line, " boot ");
    line_number(&line, s->boot_number);
    finish_line(&line);
}

int signer_open(struct signer *s, uint64_t sectors)
{
    uint64_t slots = sectors - RING_FIRST;
    s->slots = slots >> 31 ? 0x7fffffff : (uint32_t)slots;
    s->boot_number = 1;
    s->unreadable = 0;
    int any = find_newest(s);
    if (s->unreadable) {
        say_trouble(s); /* a guess here would overwrite history */
        return 0;
    }
    if (any) {
        s->seq = found.seq;
        s->boot_number = found.boot_number + 1;
        copy(s->prev, found.digest, sizeof s->prev);
        next_slot(s);
    }
    s->first_seq = s->seq;
    say_disk(s);
    return 1;
}

static void say_foreign(const struct signer *s)
{
    struct line line;
    line_start(&line, "FOREIGN", s->boot);
    line_char(&line, ' ');
    line_number(&line, s->last.seq);
    line_char(&line, ' ');
    if (valid(&found))
        line_hex(&line, found.boot, 8);
    else
        line_text(&line, "damaged");
    finish_line(&line);
}

static void say_written(const struct signer *s)
{
    struct line line;
    line_start(&line, "W", s->boot);
    line_char(&line, ' ');
    line_number(&line, s->last.seq);
    line_char(&line, ' ');
    line_number(&line, s->latency_us);
    line_char(&line, ' ');
    line_hex(&line, s->last.digest, 4);
    finish_line(&line);
}

/* False when the disk cannot be read. A foreign record is told, never linked to. */
static int last_is_mine(struct signer *s)
{
    uint32_t before = (s->at ? s->at : s->slots) - 1;
    if (!s->written)
        return 1;
    if (disk_read(RING_FIRST + before, &found))
        return 0;
    if (!same(&found, &s->last, SECTOR))
        say_foreign(s);
    return 1;
}

/* Enters this boot into the boot table, once, after its first record. */
static int listed(struct signer *s)
{
    if (!s->written || s->listed)
        return 1;
    out = s->last;
    seal(&out, BOOT_MAGIC);
    s->listed = disk_write(BOOT_FIRST + (s->boot_number - 1) % BOOT_SLOTS, &out) == 0;
    return s->listed;
}

static void compose(const struct signer *s)
{
    out = (struct record){
        .seq = s->seq,
        .uptime_us = uptime_us(),
        .wall_us = wall_us(),
        .salt = salt(),
        .first_seq = s->first_seq,
        .boot_number = s->boot_number,
        .latency_us = s->latency_us,
    };
    copy(out.boot, s->boot, sizeof out.boot);
    copy(out.prev, s->prev, sizeof out.prev);
    seal(&out, RING_MAGIC);
}

static int write_next(struct signer *s)
{
    compose(s);
    uint64_t begun = uptime_us();
    if (disk_write(RING_FIRST + s->at, &out))
        return 0;
    s->latency_us = (uint32_t)(uptime_us() - begun);
    s->last = out;
    copy(s->prev, out.digest, sizeof s->prev);
    next_slot(s);
    return 1;
}

void signer_step(struct signer *s)
{
    if (!listed(s) || !last_is_mine(s) || !write_next(s)) {
        say_trouble(s);
        return;
    }
    if (s->line_every && s->written % s->line_every == 0)
        say_written(s);
    s->written++;
}
