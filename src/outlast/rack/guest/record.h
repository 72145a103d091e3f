/* The record: one signed 512-byte sector. This file is the disk format; ledger.py is its twin.
 *
 * All numbers are little-endian. Sectors of the disk:
 *
 *     0            never touched
 *     1 .. 255     boot table: boot number b (1, 2, ...) in sector 1 + (b - 1) % 255
 *     256 ..       the ring, to the end of the disk: record `seq` in sector 256 + seq % slots
 *
 * A ring record carries RING_MAGIC. `prev` is the digest of record seq - 1 as its writer wrote it,
 * so the ring is a hash chain through all boots; the record with seq 0 has prev = 0. A writer
 * never links to a record it finds changed under its feet: a second writer breaks the chain.
 *
 * A boot table entry is the first record of that boot with BOOT_MAGIC. It is written after that
 * record and before the boot's second one, and tells of boots the ring has long overwritten.
 *
 * `salt` is a reading of the processor's counter. Two copies of one running machine (a migration
 * gone wrong) share the boot id and all memory; the salt still makes their records differ.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stddef.h>
#include <stdint.h>

#define SECTOR 512
#define BOOT_FIRST 1
#define BOOT_SLOTS 255
#define RING_FIRST 256
#define RING_MAGIC "OLRING01"
#define BOOT_MAGIC "OLBOOT01"

struct record {
    uint8_t magic[8];
    uint64_t seq;         /* 8   counts on through all boots */
    uint8_t boot[16];     /* 16  random id of this boot */
    uint8_t prev[32];     /* 32  digest of record seq - 1 */
    uint64_t uptime_us;   /* 64  since this boot */
    uint64_t wall_us;     /* 72  since 1970 UTC; good to about a second */
    uint64_t salt;        /* 80 */
    uint64_t first_seq;   /* 88  of this boot */
    uint32_t boot_number; /* 96  first boot of the disk: 1 */
    uint32_t latency_us;  /* 100 of this boot's write before this one */
    uint8_t zero[376];    /* 104 */
    uint8_t digest[32];   /* 480 SHA-256 of bytes 0 .. 479 */
};

_Static_assert(sizeof(struct record) == SECTOR, "a record is one sector");
_Static_assert(offsetof(struct record, digest) == 480, "the digest ends the record");

#endif
