// Stands between a program and its disk (LD_PRELOAD): writes down what is done to the files below a folder and what
// is said to others, in the order in which it came, and lets one of these calls fail, or be the last.
//
// DISK_UNDER     the folder, as an absolute path without links
// DISK_RECORD    where it is written down, behind what is there: `record.rs` reads it
// DISK_AT        the number of the call that it comes to, from 1; calls that change nothing are not counted
// DISK_ON        set: only syncs of this file are counted
// DISK_FAILS     with which error number it fails
// DISK_FAILS_FOR how many in a row do, of that call's kind; 1 where it is not given
// DISK_DIES      set: the process is killed in its place
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char under[PATH_MAX], above[PATH_MAX];
static int record = -1, fails, dies;
static long at, fails_for = 1, count;
// What failed first: `s` a sync, `w` anything else.
static char failing;
static const char *on;

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("DISK_UNDER"), *path = getenv("DISK_RECORD");
    if (!folder || !path) return;
    snprintf(under, sizeof under, "%s", folder);
    snprintf(above, sizeof above, "%s", folder);
    char *slash = strrchr(above, '/');
    if (slash) *slash = 0;
    record = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (getenv("DISK_AT")) at = atol(getenv("DISK_AT"));
    if (getenv("DISK_FAILS")) fails = atoi(getenv("DISK_FAILS"));
    if (getenv("DISK_FAILS_FOR")) fails_for = atol(getenv("DISK_FAILS_FOR"));
    dies = getenv("DISK_DIES") != NULL;
    on = getenv("DISK_ON");
}

// Who ends takes its threads with it, also out of the middle of a line.
__attribute__((destructor)) static void end(void) { pthread_mutex_lock(&turn); }

static int is_under(const char *path) {
    size_t length = strlen(under);
    return record >= 0 && !strncmp(path, under, length) && (path[length] == '/' || !path[length]);
}

// Where a descriptor leads: a path, or `socket:[..]`.
static int where(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

// The absolute path of what may not be there.
static int whole(int folder, const char *path, char *found) {
    char text[PATH_MAX], parent[PATH_MAX];
    if (path[0] == '/' || folder == AT_FDCWD) {
        if (snprintf(text, sizeof text, "%s%s", path[0] == '/' ? "" : "./", path) >= PATH_MAX) return 0;
    } else {
        if (!where(folder, parent)) return 0;
        if (snprintf(text, sizeof text, "%s/%s", parent, path) >= PATH_MAX) return 0;
    }
    char *slash = strrchr(text, '/');
    *slash = 0;
    if (!realpath(slash == text ? "/" : text, parent)) return 0;
    return snprintf(found, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", slash + 1) < PATH_MAX;
}

static unsigned long inode(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

// One line, and these bytes behind it: at once, since other processes write there, too.
static void note(const char *line, const struct iovec *pieces, int many) {
    struct iovec all[many + 2];
    all[0] = (struct iovec){(void *)line, strlen(line)};
    memcpy(all + 1, pieces, many * sizeof *pieces);
    all[many + 1] = (struct iovec){"\n", many > 0};
    ssize_t length = 0;
    for (int piece = 0; piece < many + 2; piece++) length += all[piece].iov_len;
    if (syscall(SYS_writev, record, all, many + 2) != length) abort();
}

__attribute__((format(printf, 1, 2))) static void noted(const char *format, ...) {
    char line[2 * PATH_MAX + 64];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    note(line, NULL, 0);
}

// Whether this call fails; `errno` says how.
static int fails_now(char kind, const char *path) {
    if (on && (kind != 's' || strcmp(path, on))) return 0;
    count++;
    if (!at || count < at) return 0;
    if (dies && count == at) syscall(SYS_kill, getpid(), SIGKILL);
    if (!fails) return 0;
    if (count == at) failing = kind;
    if (kind != failing || fails_for == 0) return 0;
    fails_for--;
    errno = fails;
    return 1;
}

#define TURN pthread_mutex_lock(&turn)
#define DONE(result) \
    do { \
        ssize_t done = (result); \
        int error = errno; \
        pthread_mutex_unlock(&turn); \
        errno = error; \
        return done; \
    } while (0)

static void written(int fd, const char *path, off_t from, const void *bytes, size_t length) {
    char line[PATH_MAX + 100];
    snprintf(line, sizeof line, "write %lu %lld %zu %s\n", inode(fd), (long long)from, length, path);
    note(line, &(struct iovec){(void *)bytes, length}, 1);
}

// So much of these was said. Nothing is done to the disk meanwhile: others wait for their turn.
static ssize_t said(const struct iovec *pieces, int many, ssize_t length) {
    if (length <= 0) return length;
    char line[40];
    struct iovec taken[many];
    ssize_t left = length;
    for (int piece = 0; piece < many; piece++) {
        size_t most = pieces[piece].iov_len < (size_t)left ? pieces[piece].iov_len : (size_t)left;
        taken[piece] = (struct iovec){pieces[piece].iov_base, most};
        left -= most;
    }
    snprintf(line, sizeof line, "say %zd\n", length);
    note(line, taken, many);
    return length;
}

static int is_said(int fd, const char *path) { return fd == 1 || !strncmp(path, "socket:", 7); }

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (record < 0 || !where(fd, path)) return syscall(SYS_write, fd, bytes, length);
    TURN;
    ssize_t result;
    if (is_under(path)) {
        if (fails_now('w', path)) DONE(-1);
        result = syscall(SYS_write, fd, bytes, length);
        if (result > 0) written(fd, path, lseek(fd, 0, SEEK_CUR) - result, bytes, result);
    } else {
        result = syscall(SYS_write, fd, bytes, length);
        if (is_said(fd, path)) said(&(struct iovec){(void *)bytes, length}, 1, result);
    }
    DONE(result);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t from) {
    char path[PATH_MAX];
    if (record < 0 || !where(fd, path) || !is_under(path)) return syscall(SYS_pwrite64, fd, bytes, length, from);
    TURN;
    if (fails_now('w', path)) DONE(-1);
    ssize_t result = syscall(SYS_pwrite64, fd, bytes, length, from);
    if (result > 0) written(fd, path, from, bytes, result);
    DONE(result);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    if (record < 0) return syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
    TURN;
    ssize_t result = syscall(SYS_sendto, fd, bytes, length, flags, NULL, 0);
    DONE(said(&(struct iovec){(void *)bytes, length}, 1, result));
}

ssize_t writev(int fd, const struct iovec *pieces, int many) {
    char path[PATH_MAX];
    if (record < 0 || !where(fd, path)) return syscall(SYS_writev, fd, pieces, many);
    TURN;
    // Files of the database are not written so.
    if (is_under(path)) abort();
    ssize_t result = syscall(SYS_writev, fd, pieces, many);
    DONE(is_said(fd, path) ? said(pieces, many, result) : result);
}

static int sync_(int fd, long call) {
    char path[PATH_MAX];
    if (record < 0 || !where(fd, path) || (!is_under(path) && strcmp(path, above))) return syscall(call, fd);
    TURN;
    struct stat found;
    int is_folder = !fstat(fd, &found) && S_ISDIR(found.st_mode);
    int result = fails_now('s', path) ? -1 : (int)syscall(call, fd);
    // After one that has failed nobody knows what is on the disk.
    const char *what = result ? "unsure" : "sync";
    if (is_folder) {
        noted("%s_folder %s\n", what, path);
    } else {
        noted("%s %lu %s\n", what, (unsigned long)found.st_ino, path);
    }
    DONE(result);
}

int fsync(int fd) { return sync_(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_(fd, SYS_fdatasync); }

int ftruncate64(int fd, off64_t length) {
    char path[PATH_MAX];
    if (record < 0 || !where(fd, path) || !is_under(path)) return syscall(SYS_ftruncate, fd, length);
    TURN;
    if (fails_now('w', path)) DONE(-1);
    int result = syscall(SYS_ftruncate, fd, length);
    if (!result) noted("cut %lu %lld %s\n", inode(fd), (long long)length, path);
    DONE(result);
}

static int opens(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (record < 0 || !(flags & (O_CREAT | O_TRUNC)) || !whole(folder, name, path) || !is_under(path))
        return syscall(SYS_openat, folder, name, flags, mode);
    TURN;
    struct stat before;
    int was_there = !stat(path, &before);
    if ((!was_there || flags & O_TRUNC) && fails_now('w', path)) DONE(-1);
    int fd = syscall(SYS_openat, folder, name, flags, mode);
    if (fd >= 0 && !was_there) noted("make %lu %s\n", inode(fd), path);
    if (fd >= 0 && was_there && flags & O_TRUNC) noted("cut %lu 0 %s\n", inode(fd), path);
    DONE(fd);
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list values; \
        va_start(values, flags); \
        mode = va_arg(values, mode_t); \
        va_end(values); \
    }

int open(const char *path, int flags, ...) {
    MODE;
    return opens(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE;
    return opens(AT_FDCWD, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE;
    return opens(folder, path, flags, mode);
}

int mkdir(const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (record < 0 || !whole(AT_FDCWD, name, path) || !is_under(path)) return syscall(SYS_mkdirat, AT_FDCWD, name, mode);
    TURN;
    struct stat before;
    if (stat(path, &before) && fails_now('w', path)) DONE(-1);
    int result = syscall(SYS_mkdirat, AT_FDCWD, name, mode);
    if (!result) noted("make_folder %s\n", path);
    DONE(result);
}

int rename(const char *from, const char *to) {
    char old[PATH_MAX], new[PATH_MAX];
    if (record < 0 || !whole(AT_FDCWD, from, old) || !whole(AT_FDCWD, to, new) || !is_under(old))
        return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    TURN;
    if (fails_now('w', old)) DONE(-1);
    int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!result) noted("rename %s\n%s\n", old, new);
    DONE(result);
}

static int removes(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    if (record < 0 || !whole(folder, name, path) || !is_under(path)) return syscall(SYS_unlinkat, folder, name, flags);
    TURN;
    struct stat before;
    if (!lstat(path, &before) && fails_now('w', path)) DONE(-1);
    int result = syscall(SYS_unlinkat, folder, name, flags);
    if (!result) noted("remove %s\n", path);
    DONE(result);
}

int unlink(const char *path) { return removes(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return removes(folder, path, flags); }

// What would change a file without a word in the record must not be.
ssize_t sendfile64(int to, int from, off64_t *at_, size_t length) {
    char path[PATH_MAX];
    if (where(to, path) && is_under(path)) abort();
    return syscall(SYS_sendfile, to, from, at_, length);
}
