/* Counts the instructions that a program executes, and those between two marks, as a QEMU plugin.
 *
 *   cc -O2 -shared -fPIC insn_count.c -o insn_count.so
 *   qemu-aarch64 -plugin ./insn_count.so -d plugin PROGRAM
 *
 * A write(2) of the program to file descriptor 1001 starts the count, one to 1002 ends it;
 * the writes fail, harmlessly. At exit `insns: N` is printed if there were both marks, and
 * `total: N` of all threads from start to end.
 *
 * The declarations are the few that this needs of QEMU's qemu-plugin.h, which Debian does
 * not package before QEMU 9. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*tb_trans_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*vcpu_udata_cb)(unsigned, void *);
typedef void (*udata_cb)(qemu_plugin_id_t, void *);
typedef void (*syscall_cb)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_trans_cb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, vcpu_udata_cb,
                                          enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_cb);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, udata_cb, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_outs(const char *);
__attribute__((weak)) void *qemu_plugin_scoreboard_new(size_t);

/* QEMU refuses versions below 2 since 9.0 and above 1 before. What is used here is the same
 * in both: only QEMU itself says which it is, by a function that came with 9.0. */
EXPORT int qemu_plugin_version = 1;
__attribute__((constructor)) static void choose_version(void)
{
    if (qemu_plugin_scoreboard_new) qemu_plugin_version = 2;
}

enum { WRITE_ON_AARCH64 = 64, FD_START = 1001, FD_STOP = 1002 };

static uint64_t executed; /* by all threads */
static uint64_t before;   /* the first mark */
static uint64_t counted;
static int has_started, has_stopped;

static void on_execute(unsigned vcpu, void *instructions)
{
    (void)vcpu;
    __atomic_fetch_add(&executed, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_execute, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

static void on_syscall(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t fd,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8)
{
    (void)id; (void)vcpu; (void)a2; (void)a3; (void)a4; (void)a5; (void)a6; (void)a7; (void)a8;
    if (number != WRITE_ON_AARCH64) return;
    if (fd == FD_START) {
        before = executed;
        has_started = 1;
    }
    if (fd == FD_STOP && has_started) {
        counted = executed - before;
        has_stopped = 1;
    }
}

static void on_exit(qemu_plugin_id_t id, void *unused)
{
    char line[64];
    (void)id; (void)unused;
    if (has_stopped) {
        snprintf(line, sizeof line, "insns: %" PRIu64 "\n", counted);
        qemu_plugin_outs(line);
    }
    snprintf(line, sizeof line, "total: %" PRIu64 "\n", executed);
    qemu_plugin_outs(line);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info; (void)argc; (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
