/* Finds and opens plug-ins. What needs CUDA or MPI is a shared object of its own, so that a run on
 * one CPU loads nothing of either, and one program serves a laptop and a cluster. */
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FILE_BYTES = 64 };

static seo_err fail_for_plugin(seo_err code, const char *file, int line, const char *message) {
    return seo_fail_at(code, file, line, "%s", message);
}

static seo_err context_for_plugin(seo_err code, const char *prefix) {
    return seo_err_context(code, "%s", prefix);
}

void seo_plugin_host_fill(seo_plugin_host *host) {
    *host = (seo_plugin_host){.abi = SEO_PLUGIN_ABI,
                              .layout = seo_plugin_layout(),
                              .fail = fail_for_plugin,
                              .context = context_for_plugin,
                              .detail = seo_err_detail,
                              .assert_failed = seo_assert_failed,
                              .clock_s = seo_clock_s,
                              .device_is_cpu = seo_device_is_cpu,
                              .copy_in = seo_device_copy_in,
                              .copy_out = seo_device_copy_out};
}

/* Beside the program: "/usr/bin/seodang" gives "/usr/bin/libseodang_cuda.so". */
static seo_err path_beside_program(const seo_plugin *plugin, char out[PATH_BYTES]) {
    char program[PATH_BYTES - FILE_BYTES];
    SEO_ASSERT(strlen(plugin->file) < FILE_BYTES);
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) {
        return SEO_FAIL(SEO_ERR_IO, "%s: /proc/self/exe cannot be read", plugin->what);
    }
    program[length] = '\0';
    char *slash = strrchr(program, '/');
    SEO_ASSERT(slash != NULL);
    slash[1] = '\0';
    snprintf(out, PATH_BYTES, "%s%s", program, plugin->file);
    return SEO_OK;
}

/* Whether the file begins as a shared object does, as far as it goes: an empty one may have been
 * one before it was cut short. */
static bool is_object(int fd) {
    char magic[SELFMAG];
    const ssize_t got = pread(fd, magic, sizeof magic, 0);
    return got >= 0 && memcmp(magic, ELFMAG, (size_t)got) == 0;
}

/* Whether all that the headers of a shared object speak of lies inside its `bytes`. */
static bool is_whole(int fd, uint64_t bytes) {
    ElfW(Ehdr) file;
    ElfW(Phdr) part;
    if (pread(fd, &file, sizeof file, 0) != (ssize_t)sizeof file ||
        file.e_phentsize != sizeof part) {
        return false;
    }
    const uint64_t sections = (uint64_t)file.e_shnum * file.e_shentsize;
    if (file.e_shoff > bytes || sections > bytes - file.e_shoff) return false;
    for (uint64_t i = 0; i < file.e_phnum; i++) {
        if (file.e_phoff > bytes) return false;
        const off_t at = (off_t)(file.e_phoff + i * sizeof part);
        if (pread(fd, &part, sizeof part, at) != (ssize_t)sizeof part || part.p_offset > bytes ||
            part.p_filesz > bytes - part.p_offset) {
            return false;
        }
    }
    return true;
}

/* The dynamic loader maps a file without asking how long it is: one that was copied halfway would
 * end the process with SIGBUS. */
static seo_err check_whole(const seo_plugin *plugin, const char *path) {
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return SEO_FAIL(SEO_ERR_MISSING, "%s: there is no plug-in %s; %s", plugin->what, path,
                        plugin->remedy);
    }
    if (fd < 0) {
        return SEO_FAIL(SEO_ERR_IO, "%s: %s: cannot open: %s", plugin->what, path, strerror(errno));
    }
    const bool object = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && is_object(fd);
    const bool whole = object && is_whole(fd, (uint64_t)status.st_size);
    close(fd);
    if (whole) return SEO_OK;
    if (!object) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s is no plug-in: not a shared object; %s",
                        plugin->what, path, plugin->remedy);
    }
    return SEO_FAIL(SEO_ERR_FORMAT,
                    "%s: %s is damaged or was copied only in part; build it again, or copy it "
                    "again",
                    plugin->what, path);
}

/* The plug-in stays loaded until the process ends: what it opened holds pointers into it. */
static seo_err load(const seo_plugin *plugin, const char *path, const void **table) {
    seo_plugin_host host;
    seo_plugin_host_fill(&host);
    const seo_err err = check_whole(plugin, path);
    if (err != SEO_OK) return err;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return SEO_FAIL(SEO_ERR_UNSUPPORTED, "%s: %s", plugin->what, dlerror());
    void *symbol = dlsym(library, plugin->entry);
    seo_plugin_entry *entry = NULL;
    memcpy(&entry, &symbol, sizeof entry);
    *table = entry ? entry(&host) : NULL;
    if (!*table) {
        return SEO_FAIL(SEO_ERR_UNSUPPORTED,
                        "%s: %s belongs to another version of this program; build both together",
                        plugin->what, path);
    }
    return SEO_OK;
}

seo_err seo_plugin_open(const seo_plugin *plugin, const char *path, const void **table) {
    char beside[PATH_BYTES];
    *table = NULL;
    if (!path) {
        const seo_err err = path_beside_program(plugin, beside);
        if (err != SEO_OK) return err;
        path = beside;
    }
    return load(plugin, path, table);
}

seo_err seo_device_open_cuda(const seo_cuda_options *options, seo_device **out) {
    static const seo_plugin cuda = {
        .what = "cuda",
        .file = "libseodang_cuda.so",
        .entry = "seo_cuda_plugin",
        .remedy = "build with the cuda preset (or use device: cpu)",
    };
    const void *table = NULL;
    *out = NULL;
    const seo_err err = seo_plugin_open(&cuda, options->plugin, &table);
    return err != SEO_OK ? err : seo_device_open_backend(table, options, out);
}

seo_err seo_comm_open_mpi(const seo_comm_mpi_options *options, seo_comm **out) {
    static const seo_plugin mpi = {
        .what = "mpi",
        .file = "libseodang_mpi.so",
        .entry = "seo_mpi_plugin",
        .remedy = "install an MPI library (apt-get install libopenmpi-dev openmpi-bin), configure "
                  "and build again",
    };
    const void *table = NULL;
    *out = NULL;
    const seo_err err = seo_plugin_open(&mpi, options->plugin, &table);
    return err != SEO_OK ? err : seo_comm_open_backend(table, options, out);
}
