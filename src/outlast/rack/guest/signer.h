/* The signer: writes the hash chain of record.h to a disk. Shared by both guests.
 *
 * Lines it prints (BOOT-ID = first 8 bytes of the boot id, in hex):
 *
 *     DISK BOOT-ID slots N seq N boot N        the ring was found; seq is the next record's
 *     W BOOT-ID SEQ LATENCY-US DIGEST          this record is on the disk (first 4 digest bytes)
 *     FOREIGN BOOT-ID SEQ WHOSE                my record SEQ was changed; WHOSE boot id, or damaged
 *     IOERR BOOT-ID SEQ                        the disk refused; tried again in the next round
 */
#ifndef SIGNER_H
#define SIGNER_H

#include "record.h"

/* What the machine below must offer. Disk calls return 0 when done; a write is on stable storage
 * when it returns. Addresses and lengths are whole sectors. */
int disk_read(uint32_t sector, void *to);
int disk_write(uint32_t sector, const void *from);
uint64_t uptime_us(void);
uint64_t wall_us(void);
uint64_t salt(void);
void console_write(const char *text, uint32_t size);

struct signer {
    uint8_t boot[16];
    uint32_t line_every; /* a W line for the first and then every n-th record; 0: none */
    uint32_t slots;      /* of the ring */
    uint32_t at;         /* ring slot of the next record */
    uint32_t written;    /* records this boot has written */
    uint32_t latency_us;
    int listed;     /* this boot is in the boot table */
    int unreadable; /* the disk refused a read while the end was searched */
    uint64_t seq, first_seq;
    uint32_t boot_number;
    uint8_t prev[32];
    struct record last; /* as I wrote it */
};

/* The smallest disk that has a ring, in sectors. */
#define SECTORS_MIN (RING_FIRST + 2)

/* Finds the end of the chain on a disk of at least SECTORS_MIN. False when the disk cannot be read:
 * call it again later. `boot` and `line_every` must be set, all else zero. */
int signer_open(struct signer *s, uint64_t sectors);

/* Signs once: looks whether its last record is untouched, then writes the next one. */
void signer_step(struct signer *s);

#endif
