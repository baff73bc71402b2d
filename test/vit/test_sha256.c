/* SHA-256 against the digests that NIST publishes with FIPS 180. */
#include "sha256.h"
#include "test.h"

static void check_digest(const char *text, size_t size, const char *expected)
{
    sha256 hash;
    char hex[SHA256_HEX];
    sha256_begin(&hash);
    sha256_add(&hash, text, size);
    sha256_end(&hash, hex);
    CHECK_STR(hex, expected);
}

static void the_published_digests_come_out(void)
{
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const char four_words[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                                     "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    check_digest(NULL, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_digest("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_digest(two_blocks, strlen(two_blocks),
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check_digest(four_words, strlen(four_words),
                 "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void a_million_times_a(void)
{
    sha256 hash;
    char hex[SHA256_HEX], thousand[1000];
    memset(thousand, 'a', sizeof thousand);
    sha256_begin(&hash);
    for (int i = 0; i < 1000; i++) sha256_add(&hash, thousand, sizeof thousand);
    sha256_end(&hash, hex);
    CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* The digest of the digests of all messages of 0 to 199 bytes 0, 1, 2, ...: every way in which a
 * message can end in its last block. The expected value is Python's hashlib's. */
static void every_length_of_the_last_block_is_padded_right(void)
{
    sha256 all, one;
    char hex[SHA256_HEX];
    unsigned char message[200];
    sha256_begin(&all);
    for (size_t size = 0; size < sizeof message; size++) {
        message[size] = (unsigned char)size;
        sha256_begin(&one);
        sha256_add(&one, message, size);
        sha256_end(&one, hex);
        sha256_add(&all, hex, 64);
    }
    sha256_end(&all, hex);
    CHECK_STR(hex, "7a38a844c9e159de39f0862ee2e28569a8250831150a3fbf0a59c001129b2fb2");
}

static void the_split_into_pieces_does_not_matter(void)
{
    unsigned char message[500];
    char whole[SHA256_HEX], pieces[SHA256_HEX];
    for (size_t i = 0; i < sizeof message; i++) message[i] = (unsigned char)test_random();
    for (int round = 0; round < 300; round++) {
        sha256 hash;
        size_t size = test_below(sizeof message + 1);
        sha256_begin(&hash);
        sha256_add(&hash, message, size);
        sha256_end(&hash, whole);
        sha256_begin(&hash);
        for (size_t at = 0; at < size;) {
            size_t piece = test_below(size - at + 1);
            sha256_add(&hash, message + at, piece);
            at += piece;
        }
        sha256_end(&hash, pieces);
        CHECK_STR(pieces, whole);
    }
}

int main(int argc, char **argv)
{
    test_begin(argc, argv);
    RUN(the_published_digests_come_out);
    RUN(a_million_times_a);
    RUN(every_length_of_the_last_block_is_padded_right);
    RUN(the_split_into_pieces_does_not_matter);
    return test_end();
}
