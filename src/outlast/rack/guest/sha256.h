/* SHA-256 (FIPS 180-4) of one piece of memory: small rather than fast. */
#ifndef SHA256_H
#define SHA256_H

#include <stdint.h>

static const uint32_t sha256_round[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t sha256_start[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static inline uint32_t rotate_right(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

/* The message schedule: 16 words of the block, big-endian, and 48 made from them. */
static void sha256_schedule(uint32_t w[64], const uint8_t block[64])
{
    for (int i = 0; i < 16; i++, block += 4)
        w[i] = (uint32_t)block[0] << 24 | block[1] << 16 | block[2] << 8 | block[3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        uint32_t s0 = rotate_right(a, 7) ^ rotate_right(a, 18) ^ a >> 3;
        uint32_t s1 = rotate_right(b, 17) ^ rotate_right(b, 19) ^ b >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
}

static void sha256_block(uint32_t h[8], const uint8_t block[64])
{
    uint32_t w[64], v[8]; /* v[0] .. v[7] are a .. h of the standard */
    sha256_schedule(w, block);
    for (int i = 0; i < 8; i++)
        v[i] = h[i];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate_right(v[4], 6) ^ rotate_right(v[4], 11) ^ rotate_right(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + s1 + choice + sha256_round[i] + w[i];
        uint32_t s0 = rotate_right(v[0], 2) ^ rotate_right(v[0], 13) ^ rotate_right(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        for (int k = 7; k > 0; k--)
            v[k] = v[k - 1];
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

/* The last one or two blocks: what is left, a 1 bit, zeros, the length in bits. */
static void sha256_tail(uint32_t h[8], const uint8_t *left, uint32_t count, uint32_t size)
{
    uint8_t tail[128] = { 0 };
    uint32_t end = count < 56 ? 64 : 128;
    for (uint32_t i = 0; i < count; i++)
        tail[i] = left[i];
    tail[count] = 0x80;
    for (int i = 0; i < 4; i++)
        tail[end - 1 - i] = (uint8_t)(size << 3 >> 8 * i);
    for (uint32_t at = 0; at < end; at += 64)
        sha256_block(h, tail + at);
}

/* `size` must stay below 512 MiB. */
static void sha256(const void *data, uint32_t size, uint8_t digest[32])
{
    const uint8_t *at = data;
    uint32_t h[8], left = size;
    for (int i = 0; i < 8; i++)
        h[i] = sha256_start[i];
    for (; left >= 64; left -= 64, at += 64)
        sha256_block(h, at);
    sha256_tail(h, at, left, size);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

#endif
