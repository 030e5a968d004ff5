/* The line between ranks: forked processes on the loopback. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/file.h"
#include "ranks_fixture.h"
#include "train/world/meet.h"

static char g_folder[64];

static ranks_plan plan_of(int32_t size, int (*act)(const ranks_plan *, int32_t, ranks_shared *)) {
    return (ranks_plan){.size = size, .join_s = 20, .folder = g_folder, .act = act};
}

/* Runs the plan; the test looks at r->shared and ends it. */
static void run(const ranks_plan *plan, ranks *r) {
    ranks_start(plan, r);
    ranks_wait(plan, r, 60);
}

static void check_all(const ranks_plan *plan, const ranks *r, int status) {
    for (int32_t k = 0; k < plan->size; k++) {
        if (plan->absent[k] || r->status[k] == status) continue;
        fail_msg("rank %d ended with %d, not %d: %s\n%s", (int)k, r->status[k], status,
                 r->shared->report[k].text, r->output);
    }
}

/* ---- alone ---- */

static void one_rank_needs_nobody(void **state) {
    (void)state;
    const seo_launch launch = {.size = 1, .local_size = 1};
    const seo_world_args args = {.launch = &launch, .join_s = 1};
    seo_world *world;
    seo_blob all[1], shared;
    assert_int_equal(seo_world_open(&args, &world), SEO_OK);
    assert_int_equal(seo_world_size(world), 1);
    assert_int_equal(seo_world_gather(world, SEO_CHANNEL_RUN, "x", "abc", 3, all), SEO_OK);
    assert_memory_equal(all[0].data, "abc", 3);
    assert_int_equal(seo_world_share(world, SEO_CHANNEL_RUN, "x", "de", 2, &shared), SEO_OK);
    assert_int_equal(shared.bytes, 2);
    assert_int_equal(seo_world_agree(world, SEO_CHANNEL_RUN, "x", SEO_OK), SEO_OK);
    assert_int_equal(seo_world_agree(world, SEO_CHANNEL_RUN, "x", SEO_ERR_IO), SEO_ERR_IO);
    assert_int_equal(seo_world_same(world, "x", "text"), SEO_OK);
    seo_blobs_free(all, 1);
    seo_blobs_free(&shared, 1);
    seo_world_close(world);
    seo_world_close(NULL);
}

/* ---- messages ---- */

static int talk(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_world *world;
    seo_blob all[RANKS_MAX], answer;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    int bad = 0;
    for (int turn = 0; turn < 50; turn++) {
        char mine[64];
        const int bytes = snprintf(mine, sizeof mine, "turn %d of rank %d", turn, (int)rank);
        /* An empty message among them. */
        const int64_t length = turn % 7 == 0 ? 0 : bytes;
        if (seo_world_gather(world, SEO_CHANNEL_RUN, "words", mine, length, all) != SEO_OK) {
            return 2;
        }
        for (int32_t k = 0; rank == 0 && k < plan->size; k++) {
            snprintf(mine, sizeof mine, "turn %d of rank %d", turn, (int)k);
            const int64_t want = turn % 7 == 0 ? 0 : (int64_t)strlen(mine);
            bad += all[k].bytes != want || memcmp(all[k].data, mine, (size_t)want) != 0;
        }
        if (rank == 0) seo_blobs_free(all, plan->size);
        const char *said = rank == 0 ? "an answer" : NULL;
        if (seo_world_share(world, SEO_CHANNEL_RUN, "answer", said, rank == 0 ? 9 : 0, &answer) !=
            SEO_OK) {
            return 3;
        }
        bad += answer.bytes != 9 || memcmp(answer.data, "an answer", 9) != 0;
        seo_blobs_free(&answer, 1);
    }
    char self[64];
    snprintf(self, sizeof self, ", process %ld", (long)getpid());
    bad += strstr(seo_world_who(world, rank), self) == NULL;
    bad += strncmp(seo_world_who(world, 0), "rank 0 on ", 10) != 0;
    seo_world_close(world);
    return bad == 0 ? 0 : 4;
}

static void messages_reach_everybody(void **state) {
    (void)state;
    ranks r;
    for (int32_t size = 2; size <= 5; size += 3) {
        const ranks_plan plan = plan_of(size, talk);
        run(&plan, &r);
        check_all(&plan, &r, 0);
        assert_string_equal(r.output, "");
        ranks_end(&r);
    }
}

enum { BLOB_BYTES = 20 << 20 };

static uint8_t byte_of(int32_t rank, int64_t i) {
    return (uint8_t)(((uint64_t)i * 2654435761u + (uint64_t)rank * 97u) >> 7);
}

static int big_blobs(seo_world *world, const ranks_plan *plan, int32_t rank, seo_channel channel) {
    seo_blob all[RANKS_MAX], answer;
    uint8_t *mine = malloc(BLOB_BYTES);
    int bad = 0;
    for (int64_t i = 0; i < BLOB_BYTES; i++) mine[i] = byte_of(rank, i);
    for (int turn = 0; turn < 2; turn++) {
        if (seo_world_gather(world, channel, "blob", mine, BLOB_BYTES, all) != SEO_OK) return 1;
        for (int32_t k = 0; rank == 0 && k < plan->size; k++) {
            const uint8_t *got = all[k].data;
            bad += all[k].bytes != BLOB_BYTES;
            for (int64_t i = 0; bad == 0 && i < BLOB_BYTES; i++) bad += got[i] != byte_of(k, i);
        }
        if (rank == 0) seo_blobs_free(all, plan->size);
        if (seo_world_share(world, channel, "back", mine, BLOB_BYTES, &answer) != SEO_OK) return 1;
        const uint8_t *got = answer.data;
        bad += answer.bytes != BLOB_BYTES;
        for (int64_t i = 0; bad == 0 && i < BLOB_BYTES; i++) bad += got[i] != byte_of(0, i);
        seo_blobs_free(&answer, 1);
    }
    free(mine);
    return bad;
}

typedef struct saver {
    seo_world *world;
    const ranks_plan *plan;
    int32_t rank;
    int bad;
} saver;

static void *save_thread(void *argument) {
    saver *s = argument;
    s->bad = big_blobs(s->world, s->plan, s->rank, SEO_CHANNEL_SAVE);
    return NULL;
}

static int talk_on_both(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_world *world;
    pthread_t thread;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    saver s = {world, plan, rank, 0};
    if (pthread_create(&thread, NULL, save_thread, &s) != 0) return 2;
    /* Small agreements do not wait for the blobs of the other channel. */
    int bad = 0;
    double slowest = 0;
    for (int i = 0; i < 20; i++) {
        const double start = ranks_clock();
        bad += seo_world_agree(world, SEO_CHANNEL_RUN, "small", SEO_OK) != SEO_OK;
        const double took = ranks_clock() - start;
        if (took > slowest) slowest = took;
    }
    shared->report[rank].seconds = slowest;
    bad += big_blobs(world, plan, rank, SEO_CHANNEL_RUN);
    if (pthread_join(thread, NULL) != 0) return 3;
    seo_world_close(world);
    return bad + s.bad == 0 ? 0 : 4;
}

static void big_messages_on_both_channels_at_once(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(3, talk_on_both);
    ranks r;
    run(&plan, &r);
    check_all(&plan, &r, 0);
    print_message("agreements beside 20 MiB blobs: slowest %.3f s\n", r.shared->report[1].seconds);
    ranks_end(&r);
}

/* ---- agreements ---- */

static int agree_with_failures(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    const int64_t failing = *(const int64_t *)plan->context; /* a set of bits */
    seo_world *world;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    seo_err mine = SEO_OK;
    if (failing >> rank & 1) mine = SEO_FAIL(SEO_ERR_FORMAT, "shard %d is torn", (int)rank);
    seo_err err = seo_world_agree(world, SEO_CHANNEL_RUN, "opening the data", mine);
    ranks_keep(shared, rank, err);
    /* The line is good for more after it. */
    seo_err again = seo_world_agree(world, SEO_CHANNEL_RUN, "again", SEO_OK);
    seo_world_close(world);
    return again == SEO_OK ? 0 : 2;
}

static void one_failure_is_everybodys(void **state) {
    (void)state;
    ranks r;
    for (int64_t failing = 1; failing < 8; failing++) {
        ranks_plan plan = plan_of(3, agree_with_failures);
        plan.context = &failing;
        const int32_t first = __builtin_ctzll((unsigned long long)failing);
        const int more = __builtin_popcountll((unsigned long long)failing) - 1;
        char begin[64], message[64], count[64];
        snprintf(begin, sizeof begin, "rank %d on ", (int)first);
        snprintf(message, sizeof message, ": shard %d is torn", (int)first);
        snprintf(count, sizeof count, "(and %d more rank", more);
        run(&plan, &r);
        check_all(&plan, &r, 0);
        for (int32_t k = 0; k < 3; k++) {
            const ranks_report *got = &r.shared->report[k];
            assert_int_equal(got->err, SEO_ERR_FORMAT);
            assert_memory_equal(got->text, begin, strlen(begin));
            assert_non_null(strstr(got->text, message));
            assert_int_equal(strstr(got->text, count) != NULL, more > 0);
            assert_string_equal(got->text, r.shared->report[0].text);
        }
        ranks_end(&r);
    }
}

static int compare_texts(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_world *world;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    seo_err same = seo_world_same(world, "the tokenizer", "one\ntwo\n");
    const char *mine = rank == 2 ? "model: a\nseed: 2\n" : "model: a\nseed: 1\n";
    ranks_keep(shared, rank, seo_world_same(world, "the configuration", mine));
    seo_world_close(world);
    return same == SEO_OK ? 0 : 2;
}

static void texts_that_differ_are_named(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(4, compare_texts);
    ranks r;
    run(&plan, &r);
    check_all(&plan, &r, 0);
    for (int32_t k = 0; k < 4; k++) {
        const ranks_report *got = &r.shared->report[k];
        assert_int_equal(got->err, SEO_ERR_USAGE);
        assert_memory_equal(got->text, "rank 2 on ", 10);
        assert_non_null(strstr(got->text, "the configuration is another one"));
        assert_non_null(strstr(got->text, "line 2 on: \"seed: 2\" here, \"seed: 1\" at rank 0"));
    }
    ranks_end(&r);
}

static int at_another_place(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_world *world;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    const char *what = rank == 1 ? "loading" : "saving";
    ranks_keep(shared, rank, seo_world_agree(world, SEO_CHANNEL_RUN, what, SEO_OK));
    seo_world_close(world);
    return 0;
}

static void ranks_at_different_places_do_not_hang(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(2, at_another_place);
    ranks r;
    run(&plan, &r);
    check_all(&plan, &r, 0);
    for (int32_t k = 0; k < 2; k++) {
        assert_int_equal(r.shared->report[k].err, SEO_ERR_USAGE);
        assert_non_null(strstr(r.shared->report[k].text, "\"loading\""));
        assert_non_null(strstr(r.shared->report[k].text, "\"saving\""));
    }
    ranks_end(&r);
}

/* ---- losses ---- */

static int die_or_wait(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    const int32_t dying = *(const int32_t *)plan->context;
    seo_world *world;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    (void)seo_world_agree(world, SEO_CHANNEL_RUN, "before", SEO_OK);
    if (rank == dying) raise(SIGKILL);
    ranks_keep(shared, rank, seo_world_agree(world, SEO_CHANNEL_RUN, "after", SEO_OK));
    seo_world_close(world);
    return 0;
}

static void a_dead_rank_is_named_to_all(void **state) {
    (void)state;
    ranks r;
    for (int32_t dying = 0; dying < 3; dying++) {
        ranks_plan plan = plan_of(3, die_or_wait);
        plan.context = &dying;
        char begin[64];
        snprintf(begin, sizeof begin, "after: rank %d on ", (int)dying);
        run(&plan, &r);
        for (int32_t k = 0; k < 3; k++) {
            if (k == dying) continue;
            assert_int_equal(r.status[k], 0);
            assert_int_equal(r.shared->report[k].err, SEO_ERR_LOST);
            assert_memory_equal(r.shared->report[k].text, begin, strlen(begin));
        }
        ranks_end(&r);
    }
}

static int leave_early(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_world *world;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    if (rank != 1) {
        ranks_keep(shared, rank, seo_world_agree(world, SEO_CHANNEL_RUN, "the end", SEO_OK));
    }
    seo_world_close(world);
    return 0;
}

static void one_that_left_is_missed_not_mourned(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(3, leave_early);
    ranks r;
    run(&plan, &r);
    check_all(&plan, &r, 0);
    for (int32_t k = 0; k < 3; k += 2) {
        assert_int_equal(r.shared->report[k].err, SEO_ERR_LOST);
        assert_non_null(strstr(r.shared->report[k].text, "rank 1 on "));
        assert_non_null(strstr(r.shared->report[k].text, "has left the run"));
    }
    ranks_end(&r);
}

/* ---- the roll call ---- */

static int only_open(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_world *world;
    if (ranks_open(plan, rank, shared, &world) != SEO_OK) return 1;
    seo_world_close(world);
    return 0;
}

static void missing_ranks_are_named(void **state) {
    (void)state;
    ranks_plan plan = plan_of(5, only_open);
    ranks r;
    plan.absent[1] = plan.absent[3] = true;
    plan.join_s = 1;
    run(&plan, &r);
    check_all(&plan, &r, 1);
    for (int32_t k = 0; k < 5; k++) {
        if (plan.absent[k]) continue;
        assert_int_equal(r.shared->report[k].err, SEO_ERR_MISSING);
        assert_non_null(strstr(r.shared->report[k].text, "ranks 1, 3 of 5 have never come"));
        assert_true(r.shared->report[k].seconds < 5);
    }
    ranks_end(&r);
}

static void without_rank_0_the_others_say_so(void **state) {
    (void)state;
    ranks_plan plan = plan_of(2, only_open);
    ranks r;
    plan.absent[0] = true;
    plan.join_s = 0.5;
    run(&plan, &r);
    assert_int_equal(r.status[1], 1);
    assert_int_equal(r.shared->report[1].err, SEO_ERR_MISSING);
    assert_non_null(strstr(r.shared->report[1].text, "could not find rank 0"));
    ranks_end(&r);
}

static void a_batch_script_without_srun_is_recognised(void **state) {
    (void)state;
    seo_launch launch = {
        .launcher = SEO_LAUNCH_SLURM, .size = 4, .local_size = 4, .id = "slurm 12.batch restart 0"};
    const seo_world_args args = {.launch = &launch, .folder = g_folder, .join_s = 0.2};
    seo_world *world;
    assert_int_equal(seo_world_open(&args, &world), SEO_ERR_MISSING);
    assert_non_null(strstr(seo_err_detail(), "ranks 1, 2, 3 of 4"));
    assert_non_null(strstr(seo_err_detail(), "srun"));
    assert_null(world);
}

static int another_size(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_launch launch = ranks_launch(plan, rank);
    const seo_world_args args = {.launch = &launch, .folder = plan->folder, .join_s = plan->join_s};
    seo_world *world;
    if (rank == 1) launch.size = 4;
    seo_err err = seo_world_open(&args, &world);
    ranks_keep(shared, rank, err);
    return err == SEO_OK ? 0 : 1;
}

static void different_sizes_end_the_run_at_once(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(2, another_size);
    ranks r;
    const double start = ranks_clock();
    run(&plan, &r);
    check_all(&plan, &r, 1);
    assert_true(ranks_clock() - start < 10);
    for (int32_t k = 0; k < 2; k++) {
        assert_int_equal(r.shared->report[k].err, SEO_ERR_USAGE);
        assert_non_null(strstr(r.shared->report[k].text, "says the run has 4 ranks"));
        assert_non_null(strstr(r.shared->report[k].text, "says 2"));
    }
    ranks_end(&r);
}

/* Waits for rank 0's card and connects to the loopback. */
static int connect_to_rank_0(const ranks_plan *plan, seo_card *card) {
    char path[SEO_PATH_MAX], *text = NULL;
    int64_t bytes;
    while (seo_meet_file(plan->folder, path) != SEO_OK ||
           seo_file_read(path, SEO_CARD_BYTES, &text, &bytes) != SEO_OK) {
        usleep(1000);
    }
    if (!seo_card_parse(text, (size_t)bytes, card)) return -1;
    free(text);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)card->port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

/* Rank 1 is of another start for a while; then the right one comes. */
static int a_ghost_first(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_launch launch = ranks_launch(plan, rank);
    const seo_world_args args = {
        .launch = &launch, .folder = plan->folder, .join_s = rank == 2 ? 1.0 : plan->join_s};
    seo_world *world;
    if (rank == 2) { /* The ghost: rank 1 of an earlier start, with the card of this one. */
        seo_card card;
        const int fd = connect_to_rank_0(plan, &card);
        if (fd < 0) return 5;
        close(fd);
        launch.rank = 1;
        launch.master_port = card.port;
        snprintf(launch.master, sizeof launch.master, "localhost");
        snprintf(launch.id, sizeof launch.id, "test before");
    }
    if (rank == 1) sleep(2);
    launch.size = 2;
    seo_err err = seo_world_open(&args, &world);
    ranks_keep(shared, rank, err);
    if (err == SEO_OK) seo_world_close(world);
    return err == SEO_OK ? 0 : 1;
}

static void a_ghost_of_another_start_is_turned_away(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(3, a_ghost_first);
    ranks r;
    run(&plan, &r);
    assert_int_equal(r.status[0], 0);
    assert_int_equal(r.status[1], 0);
    assert_int_equal(r.status[2], 1);
    assert_non_null(strstr(r.shared->report[2].text, "belongs to another start"));
    assert_non_null(strstr(r.output, "turned away: rank 1 on "));
    ranks_end(&r);
}

/* ---- strangers ---- */

enum { STRANGERS = 200 };

/* Rank 3 is many strangers: some silent, some that say nonsense, some that stop in mid-word. The
 * ranks come after them. */
static int among_strangers(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_launch launch = ranks_launch(plan, rank);
    const seo_world_args args = {.launch = &launch, .folder = plan->folder, .join_s = plan->join_s};
    seo_world *world;
    launch.size = 3;
    if (rank == 3) {
        seo_card card;
        uint8_t head[SEO_WIRE_HEADER];
        const seo_frame frame = {.kind = SEO_FRAME_HELLO, .bytes = 200};
        seo_frame_put(head, &frame);
        for (int i = 0; i < STRANGERS; i++) {
            const int fd = connect_to_rank_0(plan, &card);
            if (fd < 0) return 1;
            if (i % 3 == 1) (void)!send(fd, "GET / HTTP/1.0\r\n\r\n never mind the rest", 38, 0);
            if (i % 3 == 2) (void)!send(fd, head, sizeof head - (size_t)(i % 5), 0);
        }
        ranks_store(&shared->flag[3], 1);
        pause();
    }
    while (rank != 0 && ranks_load(&shared->flag[3]) == 0) usleep(1000);
    const double start = ranks_clock();
    const seo_err err = seo_world_open(&args, &world);
    shared->report[rank].seconds = ranks_clock() - start;
    ranks_keep(shared, rank, err);
    if (err == SEO_OK) seo_world_close(world);
    return err == SEO_OK ? 0 : 1;
}

static void strangers_do_not_keep_ranks_out(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(4, among_strangers);
    ranks r;
    ranks_start(&plan, &r);
    ranks_wait_but(&plan, &r, 60, 3);
    assert_int_equal(kill(r.pid[3], SIGKILL), 0);
    ranks_wait(&plan, &r, 10);
    for (int32_t k = 0; k < 3; k++) assert_int_equal(r.status[k], 0);
    assert_true(r.shared->report[1].seconds < 4);
    assert_non_null(strstr(r.output, "turned away: a connection from "));
    ranks_end(&r);
}

/* Rank 1 is played by hand, with a clock of its own. */
static int from_another_time(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    if (rank == 0) return only_open(plan, rank, shared);
    seo_card card;
    seo_meet_in in = {0};
    uint8_t payload[SEO_WIRE_CONTROL_MAX];
    const int fd = connect_to_rank_0(plan, &card);
    seo_wire_hello h = {.version = SEO_WIRE_VERSION,
                        .rank = 1,
                        .size = 2,
                        .process = 5,
                        .token = card.token,
                        .wall_s = (double)time(NULL) - 100,
                        .id = "test",
                        .host = "slowhost"};
    while (seo_meet_read(fd, &in) == SEO_MEET_MORE) usleep(1000);
    if (in.frame.kind != SEO_FRAME_GREET) return 1;
    if (!seo_meet_send(fd, SEO_FRAME_HELLO, payload, seo_wire_put_hello(payload, &h))) return 2;
    for (int i = 0; i < 2; i++) {
        in.have = 0;
        while (seo_meet_read(fd, &in) == SEO_MEET_MORE) usleep(1000);
    }
    return in.frame.kind == SEO_FRAME_READY ? 0 : 3;
}

static void a_clock_that_is_off_is_named(void **state) {
    (void)state;
    const ranks_plan plan = plan_of(2, from_another_time);
    ranks r;
    run(&plan, &r);
    check_all(&plan, &r, 0);
    assert_non_null(strstr(r.output, "the clock of rank 1 on slowhost, process 5 is "));
    assert_non_null(strstr(r.output, " s behind that of "));
    ranks_end(&r);
}

/* Through MASTER_ADDR, whose port somebody else holds already, as torchrun's agent does. */
static int by_master(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    seo_launch launch = ranks_launch(plan, rank);
    const seo_world_args args = {.launch = &launch, .join_s = plan->join_s};
    seo_world *world;
    snprintf(launch.master, sizeof launch.master, "127.0.0.1");
    launch.master_port = *(const int32_t *)plan->context;
    seo_err err = seo_world_open(&args, &world);
    ranks_keep(shared, rank, err);
    if (err != SEO_OK) return 1;
    err = seo_world_agree(world, SEO_CHANNEL_RUN, "all", SEO_OK);
    seo_world_close(world);
    return err == SEO_OK ? 0 : 2;
}

static void the_next_free_port_is_found(void **state) {
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof at;
    const int agent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(agent, (const struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(agent, 8), 0);
    assert_int_equal(getsockname(agent, (struct sockaddr *)&at, &bytes), 0);
    int32_t port = ntohs(at.sin_port);
    ranks_plan plan = plan_of(3, by_master);
    ranks r;
    plan.context = &port;
    run(&plan, &r);
    check_all(&plan, &r, 0);
    ranks_end(&r);
    close(agent);
}

static void a_stale_file_is_no_obstacle(void **state) {
    (void)state;
    char path[SEO_PATH_MAX], text[SEO_CARD_BYTES];
    seo_card card = {.id = "test",
                     .host = "gone",
                     .token = 7,
                     .process = 1,
                     .port = 9,
                     .address_count = 1,
                     .address = {"127.0.0.1"}};
    ranks r;
    for (int kind = 0; kind < 3; kind++) {
        const ranks_plan plan = plan_of(3, talk);
        if (kind == 1) snprintf(card.id, sizeof card.id, "test of yesterday");
        seo_card_text(&card, text);
        if (kind == 2) snprintf(text, sizeof text, "no card\n");
        assert_int_equal(seo_meet_file(g_folder, path), SEO_OK);
        assert_int_equal(seo_file_write_atomic(path, text, (int64_t)strlen(text)), SEO_OK);
        run(&plan, &r);
        check_all(&plan, &r, 0);
        ranks_end(&r);
        assert_int_not_equal(access(path, F_OK), 0);
    }
}

/* A second start takes the place of the first one's file before the first gives up. */
static int overtaken(const ranks_plan *plan, int32_t rank, ranks_shared *shared) {
    if (rank == 0) return only_open(plan, rank, shared);
    char path[SEO_PATH_MAX], text[SEO_CARD_BYTES];
    seo_card card;
    const int fd = connect_to_rank_0(plan, &card);
    if (fd < 0) return 2;
    card.token++;
    seo_card_text(&card, text);
    if (seo_meet_file(plan->folder, path) != SEO_OK) return 3;
    return seo_file_write_atomic(path, text, (int64_t)strlen(text)) == SEO_OK ? 0 : 4;
}

static void the_file_of_a_later_start_stays(void **state) {
    (void)state;
    ranks_plan plan = plan_of(2, overtaken);
    char path[SEO_PATH_MAX];
    ranks r;
    plan.join_s = 1;
    run(&plan, &r);
    assert_int_equal(r.status[0], 1);
    assert_int_equal(r.status[1], 0);
    assert_non_null(strstr(r.shared->report[0].text, "rank 1 of 2 has never come"));
    assert_int_equal(seo_meet_file(g_folder, path), SEO_OK);
    assert_int_equal(unlink(path), 0);
    ranks_end(&r);
}

static void cards_read_back(void **state) {
    (void)state;
    const seo_launch launch = {.size = 2, .id = "slurm 1.0 restart 0"};
    seo_card card, back;
    char text[SEO_CARD_BYTES];
    assert_int_equal(seo_card_make(&launch, 1234, &card), SEO_OK);
    assert_true(card.address_count >= 1);
    seo_card_text(&card, text);
    assert_true(seo_card_parse(text, sizeof text, &back));
    assert_memory_equal(&back, &card, sizeof card);
    /* Cut short anywhere it is no card. */
    for (size_t i = 0; i + 1 < strlen(text); i++) assert_false(seo_card_parse(text, i, &back));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_needs_nobody),
        cmocka_unit_test(cards_read_back),
        cmocka_unit_test(messages_reach_everybody),
        cmocka_unit_test(big_messages_on_both_channels_at_once),
        cmocka_unit_test(one_failure_is_everybodys),
        cmocka_unit_test(texts_that_differ_are_named),
        cmocka_unit_test(ranks_at_different_places_do_not_hang),
        cmocka_unit_test(a_dead_rank_is_named_to_all),
        cmocka_unit_test(one_that_left_is_missed_not_mourned),
        cmocka_unit_test(missing_ranks_are_named),
        cmocka_unit_test(without_rank_0_the_others_say_so),
        cmocka_unit_test(a_batch_script_without_srun_is_recognised),
        cmocka_unit_test(different_sizes_end_the_run_at_once),
        cmocka_unit_test(a_ghost_of_another_start_is_turned_away),
        cmocka_unit_test(strangers_do_not_keep_ranks_out),
        cmocka_unit_test(a_clock_that_is_off_is_named),
        cmocka_unit_test(the_next_free_port_is_found),
        cmocka_unit_test(a_stale_file_is_no_obstacle),
        cmocka_unit_test(the_file_of_a_later_start_stays),
    };
    snprintf(g_folder, sizeof g_folder, "world-%ld", (long)getpid());
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)seo_dir_remove(g_folder);
    return failed;
}
