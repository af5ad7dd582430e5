/* godwit-agent: see agent.h for what is where, README.md for how it is used. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "godwit-agent " AGENT_VERSION ": helps a host that migrates this machine with godwit.\n"
    "\n"
    "Usage: godwit-agent [--port PATH | --listen PATH] [--run-directory DIRECTORY]\n"
    "\n"
    "  --port PATH            the port to the host: a character device, or a unix socket to connect to\n"
    "                         (default /dev/virtio-ports/org.godwit.agent.0, or the port of that name)\n"
    "  --listen PATH          a unix socket to listen on instead, for tests\n"
    "  --run-directory DIR    for the socket of applications and the list of what is frozen\n"
    "                         (default /run/godwit)\n"
    "  --version, --help\n"
    "\n"
    "Ends on SIGTERM and SIGINT, and thaws all that it has frozen first.\n";

static const char *run_directory = "/run/godwit";
static bool ended;

static void usage(const char *what)
{
    fprintf(stderr, "godwit-agent: %s\nTry godwit-agent --help.\n", what);
    exit(2);
}

static struct port_options parse_options(int count, char **arguments)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},          {"listen", required_argument, NULL, 'l'},
        {"run-directory", required_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},             {0},
    };
    struct port_options port = {0};
    opterr = 0;
    for (int name; (name = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        switch (name) {
        case 'p':
            port.port_path = optarg;
            break;
        case 'l':
            port.listen_path = optarg;
            break;
        case 'r':
            run_directory = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        case 'v':
            puts("godwit-agent " AGENT_VERSION);
            exit(0);
        default:
            usage("an option that does not exist, or without its value");
        }
    }
    if (optind != count)
        usage("words that are no options");
    if (port.port_path != NULL && port.listen_path != NULL)
        usage("--port and --listen exclude each other");
    return port;
}

/* One agent a directory: a second one would thaw what the first one holds. A dying one is given 5 seconds. */
static bool lock_directory(void)
{
    if (mkdir(run_directory, 0755) != 0 && errno != EEXIST)
        return false;
    int fd = open(run_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < 50; i++) {
        struct timespec pause = {.tv_nsec = 100 * MS};
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK)
            return false;
        nanosleep(&pause, NULL);
    }
    return false;
}

static void signalled(void *context, int fd, short events)
{
    struct signalfd_siginfo signal;
    (void)context, (void)events;
    if (read(fd, &signal, sizeof signal) == sizeof signal)
        ended = true;
}

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int give_up(const char *what)
{
    say("%s: %m", what);
    return 1;
}

int main(int count, char **arguments)
{
    static struct wait wait;
    struct port_options port = parse_options(count, arguments);
    int signals = block_signals();
    if (!lock_directory())
        return give_up(run_directory);
    if (!record_setup(run_directory))
        return give_up("what is held");
    if (!machine_setup() || !watchdog_setup() || !zero_setup())
        return give_up("threads");
    memory_setup();
    putback_run(PUTBACK_NS);
    if (!apps_setup(run_directory))
        return give_up("the socket of applications");
    if (!port_setup(&port))
        return give_up("the port");
    while (!ended) {
        wait_clear(&wait);
        port_prepare(&wait);
        hold_prepare(&wait);
        putback_prepare(&wait);
        scrub_prepare(&wait);
        apps_prepare(&wait);
        machine_prepare(&wait);
        zerofree_prepare(&wait);
        wait_fd(&wait, signals, POLLIN, signalled, NULL);
        wait_run(&wait);
        int64_t now = now_ns();
        hold_tick(now);
        putback_tick(now);
        apps_tick(now);
        zerofree_tick(now);
        port_tick(now);
    }
    session_end("the agent ends");
    return 0;
}
