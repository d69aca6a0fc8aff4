/* Makes the k-th call that writes below a folder fail, or kills the process there.
 *
 * Loaded by LD_PRELOAD, so it stands below Python, Rust, C++ and C alike. It does nothing until
 * fault_arm is called (tests/faults/injection.py). Build: cc -shared -fPIC -O1 inject.c -ldl
 *
 * Calls inside glibc (fwrite's own write) don't pass here; fopen and fwrite themselves do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAIL = 1, KILL = 2, TORN = 3 }; /* TORN: half of a write is done, then the process dies */
enum { OPEN = 1, WRITE = 2, SYNC = 4, RENAME = 8, MKDIR = 16, REMOVE = 32 };

typedef void (*listener)(const char *call, const char *path);

static char prefix[PATH_MAX];
static size_t prefix_length;
static int mode, error_number, sticky, counted, failing;
static long target;
static atomic_long *count; /* shared with the parent, which reads it after a kill */
static listener listen_to;
static __thread int inside;

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void fault_init(void) {
  if (!count)
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* k counts from 1 the calls whose kind is in `kinds`; with `again`, all after it fail too, and
 * then those in `failing_kinds`. */
void fault_arm(const char *below, long k, int what, int number, int again, int kinds,
               int failing_kinds, listener heard) {
  fault_init();
  atomic_store(count, 0);
  target = k, mode = what, error_number = number, sticky = again;
  counted = kinds, failing = failing_kinds, listen_to = heard;
  strncpy(prefix, below, sizeof prefix - 1);
  prefix_length = strlen(prefix);
}

void fault_disarm(void) { prefix_length = 0; }
long fault_count(void) { return count ? atomic_load(count) : 0; }

static int below(const char *path) {
  return !strncmp(path, prefix, prefix_length) &&
         (path[prefix_length] == '/' || path[prefix_length] == 0);
}

static int of_handle(int handle, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

static int of_name(int folder, const char *name, char *path) {
  if (!name) return 0;
  if (name[0] == '/') {
    strncpy(path, name, PATH_MAX - 1);
    path[PATH_MAX - 1] = 0;
  } else {
    char start[PATH_MAX];
    if (folder == AT_FDCWD) {
      if (!getcwd(start, sizeof start)) return 0;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
      ssize_t length = readlink(link, start, sizeof start - 1);
      if (length < 0) return 0;
      start[length] = 0;
    }
    if (snprintf(path, PATH_MAX, "%s/%s", start, name) >= PATH_MAX) return 0;
  }
  return below(path);
}

/* 0: go on. 1: fail with errno. 2: do half of it and die. */
static int decide(int kind, const char *call, const char *path) {
  if (inside) return 0;
  if (kind & counted) {
    long now = atomic_fetch_add(count, 1) + 1;
    if (listen_to) {
      inside = 1;
      int saved = errno;
      listen_to(call, path);
      errno = saved;
      inside = 0;
    }
    if (now == target) {
      if (mode == KILL) kill(getpid(), SIGKILL);
      if (mode == TORN) return 2;
      if (mode == FAIL && (kind & failing)) {
        errno = error_number;
        return 1;
      }
    }
    if (now < target) return 0;
  }
  if (mode == FAIL && sticky && target > 0 && atomic_load(count) > target && (kind & failing)) {
    errno = error_number;
    return 1;
  }
  return 0;
}

static void die(void) { kill(getpid(), SIGKILL); pause(); }

#define GUARD_NAME(kind, call, folder, name, failed) \
  char path_[PATH_MAX]; \
  int torn_ = 0; \
  if (prefix_length && of_name(folder, name, path_)) { \
    int answer_ = decide(kind, call, path_); \
    if (answer_ == 1) return failed; \
    if (answer_ == 2) torn_ = 1; \
  } \
  if (torn_) die()

#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & (O_CREAT | O_TRUNC)))

#define OPENS(symbol) \
  int symbol(const char *name, int flags, ...) { \
    REAL(int, #symbol, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
    if (WRITES(flags)) { GUARD_NAME(OPEN, "open", AT_FDCWD, name, -1); } \
    return real(name, flags, bits); \
  }
OPENS(open)
OPENS(open64)

#define OPENATS(symbol) \
  int symbol(int folder, const char *name, int flags, ...) { \
    REAL(int, #symbol, int, const char *, int, ...); \
    va_list rest; va_start(rest, flags); mode_t bits = va_arg(rest, mode_t); va_end(rest); \
    if (WRITES(flags)) { GUARD_NAME(OPEN, "open", folder, name, -1); } \
    return real(folder, name, flags, bits); \
  }
OPENATS(openat)
OPENATS(openat64)

#define FOPENS(symbol) \
  FILE *symbol(const char *name, const char *how) { \
    REAL(FILE *, #symbol, const char *, const char *); \
    if (strpbrk(how, "wa+")) { GUARD_NAME(OPEN, "fopen", AT_FDCWD, name, NULL); } \
    return real(name, how); \
  }
FOPENS(fopen)
FOPENS(fopen64)

#define GUARD_HANDLE(kind, call, handle, failed, half) \
  char path_[PATH_MAX]; \
  if (prefix_length && of_handle(handle, path_)) { \
    int answer_ = decide(kind, call, path_); \
    if (answer_ == 1) return failed; \
    if (answer_ == 2) { half; die(); } \
  }

ssize_t write(int handle, const void *data, size_t size) {
  REAL(ssize_t, "write", int, const void *, size_t);
  GUARD_HANDLE(WRITE, "write", handle, -1, real(handle, data, size / 2));
  return real(handle, data, size);
}

#define PWRITES(symbol, offset_type) \
  ssize_t symbol(int handle, const void *data, size_t size, offset_type offset) { \
    REAL(ssize_t, #symbol, int, const void *, size_t, offset_type); \
    GUARD_HANDLE(WRITE, "pwrite", handle, -1, real(handle, data, size / 2, offset)); \
    return real(handle, data, size, offset); \
  }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

ssize_t writev(int handle, const struct iovec *parts, int number) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  GUARD_HANDLE(WRITE, "writev", handle, -1, real(handle, parts, number / 2));
  return real(handle, parts, number);
}

size_t fwrite(const void *data, size_t size, size_t number, FILE *file) {
  REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
  GUARD_HANDLE(WRITE, "fwrite", fileno(file), 0,
               (real(data, size, number / 2, file), fflush(file)));
  return real(data, size, number, file);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
  REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
  GUARD_HANDLE(WRITE, "sendfile", to, -1, real(to, from, offset, size / 2));
  return real(to, from, offset, size);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
  REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t);
  GUARD_HANDLE(WRITE, "sendfile", to, -1, real(to, from, offset, size / 2));
  return real(to, from, offset, size);
}

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *place, size_t size,
                        unsigned flags) {
  REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
  GUARD_HANDLE(WRITE, "copy_file_range", to, -1, real(from, start, to, place, size / 2, flags));
  return real(from, start, to, place, size, flags);
}

#define HANDLES(symbol, kind) \
  int symbol(int handle) { \
    REAL(int, #symbol, int); \
    GUARD_HANDLE(kind, #symbol, handle, -1, (void)0); \
    return real(handle); \
  }
HANDLES(fsync, SYNC)
HANDLES(fdatasync, SYNC)

int rename(const char *old, const char *new) {
  REAL(int, "rename", const char *, const char *);
  GUARD_NAME(RENAME, "rename", AT_FDCWD, new, -1);
  return real(old, new);
}

int renameat(int from, const char *old, int to, const char *new) {
  REAL(int, "renameat", int, const char *, int, const char *);
  GUARD_NAME(RENAME, "rename", to, new, -1);
  return real(from, old, to, new);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
  REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
  GUARD_NAME(RENAME, "rename", to, new, -1);
  return real(from, old, to, new, flags);
}

int link(const char *old, const char *new) {
  REAL(int, "link", const char *, const char *);
  GUARD_NAME(RENAME, "link", AT_FDCWD, new, -1);
  return real(old, new);
}

int mkdir(const char *name, mode_t bits) {
  REAL(int, "mkdir", const char *, mode_t);
  GUARD_NAME(MKDIR, "mkdir", AT_FDCWD, name, -1);
  return real(name, bits);
}

int mkdirat(int folder, const char *name, mode_t bits) {
  REAL(int, "mkdirat", int, const char *, mode_t);
  GUARD_NAME(MKDIR, "mkdir", folder, name, -1);
  return real(folder, name, bits);
}

int unlink(const char *name) {
  REAL(int, "unlink", const char *);
  GUARD_NAME(REMOVE, "unlink", AT_FDCWD, name, -1);
  return real(name);
}

int rmdir(const char *name) {
  REAL(int, "rmdir", const char *);
  GUARD_NAME(REMOVE, "rmdir", AT_FDCWD, name, -1);
  return real(name);
}

int unlinkat(int folder, const char *name, int flags) {
  REAL(int, "unlinkat", int, const char *, int);
  GUARD_NAME(REMOVE, "unlink", folder, name, -1);
  return real(folder, name, flags);
}
