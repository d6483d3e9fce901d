// A layer between a program and its files that makes them fail, and that knows what a power cut would leave.
//
// Loaded with LD_PRELOAD. It concerns files below FAULTS_ROOT alone, and is told by the text file FAULTS_CONTROL what to do, which is
// read again whenever it changed. A line is a rule, the first that fits a call decides:
//
//     OPERATION PATTERN ACTION PROBABILITY [ARGUMENT]
//
//     operation  write read sync open create truncate unlink rename mkdir, or * for all; sync is of files and of folders
//     pattern    as fnmatch takes it, of the path below FAULTS_ROOT; * goes across folders
//     action     eio, enospc: the call fails. short: half is written. part: half is written, and the rest is refused for want of space.
//                flip: a bit of what is written or read is another. lie: a sync says that it was well and does nothing.
//                slow: the call takes ARGUMENT milliseconds more
//
// and `seed N` begins another row of chances. Each fault is a line of FAULTS_TOLD. With FAULTS_LOG every change of a file and every
// sync is appended there, in the order in which they took effect; powercut.py makes of it what a disk may hold when the power goes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX 4096
#define RULES_MAX 64
#define PATH_BYTES 512

enum operation { WRITE, READ, SYNC, OPEN, CREATE, TRUNCATE, UNLINK, RENAME, MKDIR, OPERATIONS };
static const char *const operation_names[OPERATIONS] = {"write", "read", "sync", "open", "create", "truncate", "unlink", "rename", "mkdir"};
enum action { NONE, FAIL_EIO, FAIL_ENOSPC, SHORT, PART, FLIP, LIE, SLOW };
static const char *const action_names[] = {"none", "eio", "enospc", "short", "part", "flip", "lie", "slow"};

struct rule {
  int operation; // -1 for all
  char pattern[PATH_BYTES];
  enum action action;
  double probability;
  long argument;
};

struct open_file {
  char path[PATH_BYTES]; // below the root
  uint64_t inode;
  int append;
};

static char root[PATH_BYTES];
static size_t root_length;
static const char *control;
static int log_fd = -1, told_fd = -1;
static struct open_file *open_files[FDS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;      // changes of files and the log
static pthread_mutex_t rules_lock = PTHREAD_MUTEX_INITIALIZER; // rules and chances
static struct rule rules[RULES_MAX];
static int rule_count;
static uint64_t seed = 1, drawn;
static struct timespec control_time;
static ino_t control_inode;

// -- what to do ------------------------------------------------------------------------------------------------------------

static double chance(void) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + ++drawn * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void read_rules(void) {
  struct stat now;
  if (!control || stat(control, &now) != 0) return;
  if (now.st_ino == control_inode && now.st_mtim.tv_sec == control_time.tv_sec && now.st_mtim.tv_nsec == control_time.tv_nsec) return;
  control_inode = now.st_ino;
  control_time = now.st_mtim;
  static char text[32768];
  int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  ssize_t length = 0, got;
  while ((got = syscall(SYS_read, fd, text + length, sizeof text - 1 - (size_t)length)) > 0) length += got;
  syscall(SYS_close, fd);
  text[length] = 0;
  rule_count = 0;
  char *at, *line = strtok_r(text, "\n", &at);
  for (; line && rule_count < RULES_MAX; line = strtok_r(NULL, "\n", &at)) {
    struct rule rule = {.operation = -1};
    char operation[32] = "", action[32] = "";
    unsigned long long number;
    if (sscanf(line, "seed %llu", &number) == 1) {
      seed = number;
      drawn = 0;
      continue;
    }
    if (sscanf(line, "%31s %511s %31s %lf %ld", operation, rule.pattern, action, &rule.probability, &rule.argument) < 4) continue;
    for (int i = 0; i < OPERATIONS; i++)
      if (strcmp(operation, operation_names[i]) == 0) rule.operation = i;
    for (int i = 0; i <= SLOW; i++)
      if (strcmp(action, action_names[i]) == 0) rule.action = i;
    if (rule.operation >= 0 || strcmp(operation, "*") == 0) rules[rule_count++] = rule;
  }
}

// What a call is to suffer. Sleeping is done here.
static enum action suffer(enum operation operation, const char *path, double *dice) {
  int saved = errno;
  enum action action = NONE;
  long argument = 0;
  pthread_mutex_lock(&rules_lock);
  read_rules();
  for (int i = 0; i < rule_count && action == NONE; i++) {
    struct rule *rule = &rules[i];
    if ((rule->operation < 0 || rule->operation == (int)operation) && fnmatch(rule->pattern, path, 0) == 0 && chance() < rule->probability) {
      action = rule->action;
      argument = rule->argument;
    }
  }
  if (dice) *dice = chance();
  pthread_mutex_unlock(&rules_lock);
  if (action != NONE && told_fd >= 0) {
    char line[PATH_BYTES + 64];
    int length = snprintf(line, sizeof line, "%s %s %s\n", operation_names[operation], action_names[action], path);
    syscall(SYS_write, told_fd, line, (size_t)length);
  }
  if (action == SLOW) {
    struct timespec time = {argument / 1000, argument % 1000 * 1000000};
    nanosleep(&time, NULL);
    action = NONE;
  }
  errno = saved;
  return action;
}

static int fails(enum action action) {
  if (action == FAIL_EIO) errno = EIO;
  if (action == FAIL_ENOSPC || action == PART) errno = ENOSPC;
  return action == FAIL_EIO || action == FAIL_ENOSPC;
}

// -- the log ---------------------------------------------------------------------------------------------------------------

// A record: kind, two numbers, the inode, the lengths of a name and of data, then both. Written with one call, so that a kill
// leaves all of it or a torn end, which the reader drops.
struct head {
  uint32_t kind, name_bytes;
  uint64_t inode, first, data_bytes;
};

static void note(char kind, uint64_t inode, uint64_t first, const char *name, const void *data, size_t data_bytes) {
  if (log_fd < 0) return;
  int saved = errno;
  struct head head = {(uint32_t)kind, name ? (uint32_t)strlen(name) : 0, inode, first, data_bytes};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)name, head.name_bytes}, {(void *)data, data_bytes}};
  syscall(SYS_writev, log_fd, parts, 3);
  errno = saved;
}

// Where the log is: what a sync covers ends here.
static uint64_t log_place(void) { return log_fd < 0 ? 0 : (uint64_t)syscall(SYS_lseek, log_fd, 0, SEEK_END); }

static uint64_t inode_of(int fd) {
  struct stat found;
  return fstat(fd, &found) == 0 ? (uint64_t)found.st_ino : 0;
}

// -- which files -----------------------------------------------------------------------------------------------------------

static int below_root(const char *path, char *out) {
  char whole[PATH_MAX];
  if (!root_length || !path) return 0;
  if (path[0] != '/') {
    if (!getcwd(whole, sizeof whole - strlen(path) - 2)) return 0;
    strcat(whole, "/");
    strcat(whole, path);
  } else {
    if (strlen(path) >= sizeof whole) return 0;
    strcpy(whole, path);
  }
  if (strncmp(whole, root, root_length) != 0 || (whole[root_length] != '/' && whole[root_length] != 0)) return 0;
  const char *rest = whole + root_length;
  while (*rest == '/') rest++;
  if (strlen(rest) >= PATH_BYTES) return 0;
  strcpy(out, *rest ? rest : ".");
  return 1;
}

// What was opened as this descriptor, unless something closed it that does not come by here (closedir) and it is another file by now.
static struct open_file *tracked(int fd) {
  struct open_file *file = fd >= 0 && fd < FDS_MAX ? open_files[fd] : NULL;
  return file && file->inode == inode_of(fd) ? file : NULL;
}

__attribute__((constructor)) static void begin(void) {
  const char *at = getenv("FAULTS_ROOT"), *log = getenv("FAULTS_LOG"), *told = getenv("FAULTS_TOLD");
  control = getenv("FAULTS_CONTROL");
  if (!at || strlen(at) >= sizeof root) return;
  strcpy(root, at);
  root_length = strlen(root);
  if (log) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (told) told_fd = (int)syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

// -- calls -----------------------------------------------------------------------------------------------------------------

static int open_any(int folder, const char *path, int flags, mode_t mode) {
  char name[PATH_BYTES];
  if ((folder != AT_FDCWD && path[0] != '/') || !below_root(path, name)) return (int)syscall(SYS_openat, folder, path, flags, mode);
  struct stat found;
  int saved = errno;
  if (fails(suffer(OPEN, name, NULL))) return -1;
  pthread_mutex_lock(&lock);
  int there = stat(path, &found) == 0;
  if (!there && (flags & O_CREAT)) {
    pthread_mutex_unlock(&lock);
    if (fails(suffer(CREATE, name, NULL))) return -1;
    pthread_mutex_lock(&lock);
    there = stat(path, &found) == 0;
  }
  errno = saved;
  int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
  if (fd >= 0 && fd < FDS_MAX) {
    struct open_file *file = calloc(1, sizeof *file);
    strcpy(file->path, name);
    file->inode = inode_of(fd);
    file->append = (flags & O_APPEND) != 0;
    free(open_files[fd]);
    open_files[fd] = file;
    if (!there && (flags & O_CREAT)) note('c', file->inode, 0, name, NULL, 0);
    else if (there && (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY) note('t', file->inode, 0, NULL, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  return fd;
}

#define OPEN_FUNCTION(NAME)                                      \
  int NAME(const char *path, int flags, ...) {                   \
    mode_t mode = 0;                                             \
    if (flags & (O_CREAT | O_TMPFILE)) {                         \
      va_list rest;                                              \
      va_start(rest, flags);                                     \
      mode = va_arg(rest, mode_t);                               \
      va_end(rest);                                              \
    }                                                            \
    return open_any(AT_FDCWD, path, flags, mode);                \
  }
OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)

#define OPENAT_FUNCTION(NAME)                                    \
  int NAME(int folder, const char *path, int flags, ...) {       \
    mode_t mode = 0;                                             \
    if (flags & (O_CREAT | O_TMPFILE)) {                         \
      va_list rest;                                              \
      va_start(rest, flags);                                     \
      mode = va_arg(rest, mode_t);                               \
      va_end(rest);                                              \
    }                                                            \
    return open_any(folder, path, flags, mode);                  \
  }
OPENAT_FUNCTION(openat)
OPENAT_FUNCTION(openat64)

int close(int fd) {
  pthread_mutex_lock(&lock);
  if (fd >= 0 && fd < FDS_MAX && open_files[fd]) {
    free(open_files[fd]);
    open_files[fd] = NULL;
  }
  pthread_mutex_unlock(&lock);
  return (int)syscall(SYS_close, fd);
}

static int copied(int fd, int new_fd) {
  pthread_mutex_lock(&lock);
  if (new_fd >= 0 && new_fd < FDS_MAX && tracked(fd)) {
    free(open_files[new_fd]);
    open_files[new_fd] = memcpy(calloc(1, sizeof(struct open_file)), open_files[fd], sizeof(struct open_file));
  }
  pthread_mutex_unlock(&lock);
  return new_fd;
}

static int fcntl_any(int fd, int command, long argument) {
  int result = (int)syscall(SYS_fcntl, fd, command, argument);
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

#define FCNTL_FUNCTION(NAME)                   \
  int NAME(int fd, int command, ...) {         \
    va_list rest;                              \
    va_start(rest, command);                   \
    long argument = va_arg(rest, long);        \
    va_end(rest);                              \
    return fcntl_any(fd, command, argument);   \
  }
FCNTL_FUNCTION(fcntl)
FCNTL_FUNCTION(fcntl64)

// Writes at a place, or where the file stands with `at` below zero.
static ssize_t write_any(int fd, const void *data, size_t count, off_t at) {
  struct open_file *file = tracked(fd);
  if (!file) return at < 0 ? syscall(SYS_write, fd, data, count) : syscall(SYS_pwrite64, fd, data, count, at);
  double dice;
  enum action action = suffer(WRITE, file->path, &dice);
  if (fails(action)) return -1;
  // A half that is nothing is refused at once, else a caller that tries again would never be told.
  if (action == PART && count < 2) return fails(FAIL_ENOSPC), -1;
  if ((action == SHORT || action == PART) && count > 1) count /= 2;
  char *changed = NULL;
  if (action == FLIP && count) {
    size_t bit = (size_t)(dice * (double)count * 8);
    changed = malloc(count);
    memcpy(changed, data, count);
    changed[bit / 8] ^= (char)(1 << bit % 8);
    data = changed;
  }
  pthread_mutex_lock(&lock);
  off_t place = at >= 0 ? at : file->append ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
  ssize_t written = at < 0 ? syscall(SYS_write, fd, data, count) : syscall(SYS_pwrite64, fd, data, count, at);
  if (written > 0) note('w', file->inode, (uint64_t)place, NULL, data, (size_t)written);
  pthread_mutex_unlock(&lock);
  int saved = errno;
  free(changed);
  errno = saved;
  return written;
}

ssize_t write(int fd, const void *data, size_t count) { return write_any(fd, data, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t count, off_t at) { return write_any(fd, data, count, at); }
ssize_t pwrite64(int fd, const void *data, size_t count, off_t at) { return write_any(fd, data, count, at); }

// Several parts are written one by one: fewer bytes than asked for is an answer that every caller must know.
ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!tracked(fd)) return syscall(SYS_writev, fd, parts, count);
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    ssize_t written = write_any(fd, parts[i].iov_base, parts[i].iov_len, -1);
    if (written < 0) return total ? total : -1;
    total += written;
    if ((size_t)written < parts[i].iov_len) break;
  }
  return total;
}

static ssize_t read_any(int fd, void *data, size_t count, off_t at) {
  struct open_file *file = tracked(fd);
  double dice = 0;
  enum action action = NONE;
  if (file) {
    action = suffer(READ, file->path, &dice);
    if (fails(action)) return -1;
    if (action == SHORT && count > 1) count /= 2;
  }
  ssize_t got = at < 0 ? syscall(SYS_read, fd, data, count) : syscall(SYS_pread64, fd, data, count, at);
  if (action == FLIP && got > 0) {
    size_t bit = (size_t)(dice * (double)got * 8);
    ((char *)data)[bit / 8] ^= (char)(1 << bit % 8);
  }
  return got;
}

ssize_t read(int fd, void *data, size_t count) { return read_any(fd, data, count, -1); }
ssize_t pread(int fd, void *data, size_t count, off_t at) { return read_any(fd, data, count, at); }
ssize_t pread64(int fd, void *data, size_t count, off_t at) { return read_any(fd, data, count, at); }

static int sync_any(int fd, long call) {
  struct open_file *file = tracked(fd);
  if (!file) return (int)syscall(call, fd);
  pthread_mutex_lock(&lock);
  uint64_t place = log_place();
  pthread_mutex_unlock(&lock);
  enum action action = suffer(SYNC, file->path, NULL);
  if (action == LIE) return 0;
  if (fails(action)) {
    // Linux takes the pages for clean afterwards: no later sync makes them durable.
    pthread_mutex_lock(&lock);
    note('f', file->inode, place, file->path, NULL, 0);
    pthread_mutex_unlock(&lock);
    return -1;
  }
  // With a log the disk is a simulated one, and what it really holds does not matter.
  int result = log_fd < 0 ? (int)syscall(call, fd) : 0;
  if (result == 0) {
    pthread_mutex_lock(&lock);
    note('s', file->inode, place, file->path, NULL, 0);
    pthread_mutex_unlock(&lock);
  }
  return result;
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }
// A range is as good as nothing: it makes no length durable.
int sync_file_range(int fd, off64_t from, off64_t count, unsigned flags) { return (int)syscall(SYS_sync_file_range, fd, from, count, flags); }

static int truncate_any(int fd, off_t length) {
  struct open_file *file = tracked(fd);
  if (!file) return (int)syscall(SYS_ftruncate, fd, length);
  if (fails(suffer(TRUNCATE, file->path, NULL))) return -1;
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_ftruncate, fd, length);
  if (result == 0) note('t', file->inode, (uint64_t)length, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int ftruncate(int fd, off_t length) { return truncate_any(fd, length); }
int ftruncate64(int fd, off_t length) { return truncate_any(fd, length); }

static int unlink_any(const char *path, int flags) {
  char name[PATH_BYTES];
  if (!below_root(path, name)) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
  if (fails(suffer(UNLINK, name, NULL))) return -1;
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
  if (result == 0) note('u', 0, 0, name, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int unlink(const char *path) { return unlink_any(path, 0); }
int rmdir(const char *path) { return unlink_any(path, AT_REMOVEDIR); }

static int pair(const char *from, const char *to, char kind) {
  char name[PATH_BYTES], new_name[PATH_BYTES];
  int call = kind == 'r' ? SYS_renameat : SYS_linkat;
  if (!below_root(from, name) || !below_root(to, new_name)) return (int)syscall(call, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (fails(suffer(RENAME, new_name, NULL))) return -1;
  pthread_mutex_lock(&lock);
  int result = (int)syscall(call, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (result == 0) note(kind, 0, 0, name, new_name, strlen(new_name));
  pthread_mutex_unlock(&lock);
  return result;
}

int rename(const char *from, const char *to) { return pair(from, to, 'r'); }
int link(const char *from, const char *to) { return pair(from, to, 'l'); }
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  if (from_folder != AT_FDCWD || to_folder != AT_FDCWD) return (int)syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
  return pair(from, to, 'l');
}

int mkdir(const char *path, mode_t mode) {
  char name[PATH_BYTES];
  if (!below_root(path, name)) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (fails(suffer(MKDIR, name, NULL))) return -1;
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  struct stat made;
  if (result == 0) note('m', stat(path, &made) == 0 ? (uint64_t)made.st_ino : 0, 0, name, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}
