/* One line of output, built whole and written at once: KEYWORD BOOT-ID FIELD ... */
#ifndef TEXT_H
#define TEXT_H

#include <stdint.h>

struct line {
    uint32_t used;
    char text[160];
};

static inline void line_char(struct line *line, char c)
{
    if (line->used < sizeof line->text)
        line->text[line->used++] = c;
}

static inline void line_text(struct line *line, const char *text)
{
    while (*text)
        line_char(line, *text++);
}

static inline void line_hex(struct line *line, const uint8_t *bytes, uint32_t count)
{
    for (; count; count--, bytes++) {
        line_char(line, "0123456789abcdef"[*bytes >> 4]);
        line_char(line, "0123456789abcdef"[*bytes & 15]);
    }
}

/* Divides without the compiler's library, which has no 32-bit form on most machines. */
static inline uint64_t divided(uint64_t value, uint32_t by, uint32_t *rest)
{
    uint32_t high = (uint32_t)(value >> 32), low = (uint32_t)value, top = high / by;
    high %= by;
    __asm__("divl %2" : "+a"(low), "+d"(high) : "r"(by));
    *rest = high;
    return (uint64_t)top << 32 | low;
}

static inline void line_number(struct line *line, uint64_t value)
{
    char digits[20];
    int count = 0;
    do {
        uint32_t digit;
        value = divided(value, 10, &digit);
        digits[count++] = (char)('0' + digit);
    } while (value);
    while (count)
        line_char(line, digits[--count]);
}

/* Starts a line with its keyword and the first 8 bytes of the boot id. */
static inline void line_start(struct line *line, const char *keyword, const uint8_t boot[16])
{
    line->used = 0;
    line_text(line, keyword);
    line_char(line, ' ');
    line_hex(line, boot, 8);
}

#endif
