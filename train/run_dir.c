#include "train/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum { HOLDER_MAX = SEO_RUN_OWNER_MAX, HOST_MAX = 256, ATTEMPT_BYTES_MAX = 4096 };

static void host_name(char out[HOST_MAX]) {
    if (gethostname(out, HOST_MAX) != 0) snprintf(out, HOST_MAX, "unknown-host");
    out[HOST_MAX - 1] = '\0';
}

/* Who we are, in the words that a second run prints. */
static void describe_holder(char out[HOLDER_MAX]) {
    char host[HOST_MAX], since[32] = "?";
    time_t now = time(NULL);
    struct tm utc;
    host_name(host);
    if (gmtime_r(&now, &utc)) strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(out, HOLDER_MAX, "host %s, process %ld, started %s\n", host, (long)getpid(), since);
}

/* The holder writes its name right after it has the lock: a file still empty is looked at again. */
static void read_holder(int fd, char out[HOLDER_MAX]) {
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    for (int i = 0; i < 20; i++) {
        ssize_t n = pread(fd, out, HOLDER_MAX - 1, 0);
        out[n > 0 ? n : 0] = '\0';
        char *end = strchr(out, '\n');
        if (end) {
            *end = '\0';
            return;
        }
        nanosleep(&pause, NULL);
    }
    snprintf(out, HOLDER_MAX, "a process that has not written its name");
}

static seo_err write_holder(int fd, const char *lock_path) {
    char text[HOLDER_MAX];
    describe_holder(text);
    ssize_t bytes = (ssize_t)strlen(text);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)bytes, 0) != bytes) {
        return SEO_FAIL(SEO_ERR_IO, "%s: cannot write: %s", lock_path, strerror(errno));
    }
    return SEO_OK;
}

static seo_err take_lock(const char *path, int *out) {
    char lock_path[SEO_PATH_MAX], holder[HOLDER_MAX];
    seo_err err = seo_path_join(lock_path, path, "lock");
    if (err != SEO_OK) return err;
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return SEO_FAIL(SEO_ERR_IO, "%s: cannot open: %s", lock_path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            read_holder(fd, holder);
            err = SEO_FAIL(SEO_ERR_LOCKED,
                           "%s is in use by another run (%s). Wait for it, stop it, or train into "
                           "another folder",
                           path, holder);
            goto done;
        }
        /* Some network file systems have no locks. The fence before each commit still holds. */
        seo_warn("%s: this file system has no file locks (%s): make sure that only one run writes "
                 "here",
                 lock_path, strerror(errno));
    }
    SEO_TRY(write_holder(fd, lock_path));
    *out = fd;
    return SEO_OK;
done:
    close(fd);
    return err;
}

/* The text of RUN/attempt: which attempt, and whose. Two hosts that a lock did not keep apart may
 * count the same number, but do not write the same text. */
static void attempt_text(int64_t attempt, char out[HOLDER_MAX]) {
    char host[HOST_MAX];
    host_name(host);
    snprintf(out, HOLDER_MAX, "attempt %lld host %s process %ld\n", (long long)attempt, host,
             (long)getpid());
}

static seo_err count_attempt(const char *path, int64_t *attempt) {
    char file[SEO_PATH_MAX], text[HOLDER_MAX], *saved = NULL;
    int64_t bytes = 0;
    seo_err err = seo_path_join(file, path, "attempt");
    if (err != SEO_OK) return err;
    *attempt = 0;
    err = seo_file_read(file, ATTEMPT_BYTES_MAX, &saved, &bytes);
    if (err == SEO_OK) {
        if (strncmp(saved, "attempt ", 8) == 0) *attempt = strtoll(saved + 8, NULL, 10);
        free(saved);
        if (*attempt < 1 || *attempt >= INT64_MAX) {
            return SEO_FAIL(SEO_ERR_FORMAT,
                            "%s: damaged: it does not begin with \"attempt N\". Remove it if no "
                            "other run uses this folder",
                            file);
        }
    } else if (err != SEO_ERR_MISSING) {
        return err;
    }
    *attempt += 1;
    attempt_text(*attempt, text);
    return seo_file_write_atomic(file, text, (int64_t)strlen(text));
}

/* A new folder is durable only when the folders above it are synced: else a power cut takes it away
 * with every checkpoint in it. Folders above that we may not open are not ours to make durable. */
static seo_err make_durable(const char *path) {
    char above[SEO_PATH_MAX];
    seo_path_kind kind;
    seo_err err = seo_path_look(path, &kind);
    if (err != SEO_OK || kind == SEO_PATH_DIR) return err;
    err = seo_dir_make(path);
    if (err != SEO_OK) return err;
    memcpy(above, path, strlen(path) + 1);
    for (char *slash = strrchr(above, '/'); slash && slash != above; slash = strrchr(above, '/')) {
        *slash = '\0';
        if (access(above, R_OK) == 0) err = seo_dir_sync(above);
        if (err != SEO_OK) return err;
    }
    return path[0] == '/' ? SEO_OK : seo_dir_sync(".");
}

seo_err seo_run_dir_open(const char *path, seo_run_dir *out) {
    seo_err err = SEO_OK;
    memset(out, 0, sizeof *out);
    out->lock_fd = -1;
    if (strlen(path) >= sizeof out->path) {
        return SEO_FAIL(SEO_ERR_USAGE, "the run folder's path is longer than %d bytes",
                        SEO_PATH_MAX - 1);
    }
    memcpy(out->path, path, strlen(path) + 1);
    SEO_TRY(make_durable(path));
    SEO_TRY(take_lock(path, &out->lock_fd));
    SEO_TRY(count_attempt(path, &out->attempt));
done:
    if (err != SEO_OK) seo_run_dir_close(out);
    return err;
}

void seo_run_dir_close(seo_run_dir *run) {
    if (run->lock_fd >= 0) close(run->lock_fd);
    run->lock_fd = -1;
}

seo_err seo_run_dir_owner(const char *path, char owner[SEO_RUN_OWNER_MAX]) {
    char file[SEO_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    owner[0] = '\0';
    seo_err err = seo_path_join(file, path, "attempt");
    if (err == SEO_OK) err = seo_file_read(file, ATTEMPT_BYTES_MAX, &text, &bytes);
    if (err == SEO_ERR_MISSING) {
        return SEO_FAIL(SEO_ERR_LOCKED, "%s is gone: this run no longer owns its folder", file);
    }
    if (err == SEO_OK) snprintf(owner, SEO_RUN_OWNER_MAX, "%s", text);
    free(text);
    return err;
}

seo_err seo_run_dir_owned_by(const char *path, const char *owner) {
    char now[SEO_RUN_OWNER_MAX];
    if (owner[0] == '\0') return SEO_OK;
    const seo_err err = seo_run_dir_owner(path, now);
    if (err != SEO_OK || strcmp(now, owner) == 0) return err;
    now[strcspn(now, "\n")] = '\0';
    return SEO_FAIL(SEO_ERR_LOCKED, "%s/attempt now says \"%s\": a newer attempt has taken over",
                    path, now);
}

seo_err seo_run_dir_fence(const char *path, int64_t attempt) {
    char wanted[HOLDER_MAX];
    if (attempt <= 0) return SEO_OK;
    attempt_text(attempt, wanted);
    return seo_run_dir_owned_by(path, wanted);
}
