#include "train/eval_round.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "train/signal.h"

void *seo_eval_room(int64_t count, size_t width, bool *failed) {
    void *memory = calloc((size_t)seo_max_i64(count, 1), width);
    if (!memory) *failed = true;
    return memory;
}

seo_err seo_eval_round_open(seo_comm *comm, int64_t numbers, seo_eval_round *out) {
    bool failed = false;
    *out = (seo_eval_round){.comm = comm,
                            .rank = comm ? seo_comm_rank(comm) : 0,
                            .ranks = comm ? seo_comm_size(comm) : 1,
                            .message_count = 1 + numbers};
    out->message = seo_eval_room(out->message_count, sizeof *out->message, &failed);
    out->messages = seo_eval_room(out->ranks * out->message_count, sizeof *out->messages, &failed);
    return failed ? SEO_FAIL(SEO_ERR_MEMORY, "the scores of an evaluation") : SEO_OK;
}

void seo_eval_round_close(seo_eval_round *round) {
    free(round->message);
    free(round->messages);
    *round = (seo_eval_round){0};
}

double *seo_eval_round_begin(seo_eval_round *round) {
    memset(round->message, 0, (size_t)round->message_count * sizeof *round->message);
    round->message[0] = seo_signal_asked();
    return round->message + 1;
}

bool seo_eval_round_goes_on(const seo_eval_round *round) {
    return round->message[0] == 0 || round->ranks > 1;
}

seo_err seo_eval_round_end(seo_eval_round *round) {
    const int64_t bytes = round->message_count * (int64_t)sizeof *round->message;
    seo_err err = SEO_OK;
    SEO_ASSERT(bytes <= SEO_COMM_HOST_BYTES_MAX);
    if (round->ranks == 1) {
        memcpy(round->messages, round->message, (size_t)bytes);
    } else {
        err = seo_comm_gather_host(round->comm, (seo_comm_label){"scores of an evaluation", -1},
                                   round->message, bytes, round->messages);
    }
    for (int32_t r = 0; r < round->ranks && err == SEO_OK; r++) {
        if (round->messages[r * round->message_count] != 0) {
            err = SEO_FAIL(SEO_ERR_STOPPED, "the evaluation was left off");
        }
    }
    return err;
}

const double *seo_eval_round_numbers(const seo_eval_round *round, int32_t rank) {
    return round->messages + rank * round->message_count + 1;
}
