// Package namespace restarts the program in new namespaces.
//
// Linux moves a single thread into a namespace, not a process, and a Go program has many threads
// before its first line runs. So the program enters the namespaces on one thread and then executes
// itself, which terminates the others. All threads of the new program are inside, and so are its
// kernel workers.
//
//   - net, mount, uts and ipc: the process itself continues, by execve(2). It keeps its pid, its
//     terminal and its parent.
//   - user and pid: only a process created in these namespaces is in them. So a child is created,
//     and the first process waits for it. It passes on signals and the exit code. If it is killed,
//     the child is killed too (PR_SET_PDEATHSIG).
//
// [Enter] is the first part. [Settle] runs in the restarted program and does what is possible only
// inside: it mounts /proc for the new process ids, sets the host name, and brings up loopback.
//
// Source: namespaces(7), user_namespaces(7), pid_namespaces(7).
//
// A signal from the terminal reaches the child on its own; the first process passes on only the
// others. Until the child has called [Ready], a signal terminates it. SIGSTOP stops only the first.
package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Set selects the namespaces in which the program is restarted.
type Set struct {
	Net      string // "": the host's; New: a new one; else the name of one in /run/netns
	Mount    bool
	UTS      bool
	Hostname string // requires UTS
	IPC      bool
	User     bool // maps the user to root, and no one else
	PID      bool // implies Mount, for a /proc of its own
}

// New asks for a new network namespace.
const New = "new"

// kinds lists the kinds of namespaces by their names in /proc/PID/ns, in the order in which errors
// name them.
var kinds = [...]struct {
	name   string
	flag   uintptr
	limit  string // the file in /proc/sys/user
	wanted func(Set) bool
}{
	{"user", unix.CLONE_NEWUSER, "max_user_namespaces", func(s Set) bool { return s.User }},
	{"net", unix.CLONE_NEWNET, "max_net_namespaces", func(s Set) bool { return s.Net != "" }},
	{"mnt", unix.CLONE_NEWNS, "max_mnt_namespaces", func(s Set) bool { return s.Mount || s.PID }},
	{"uts", unix.CLONE_NEWUTS, "max_uts_namespaces", func(s Set) bool { return s.UTS }},
	{"ipc", unix.CLONE_NEWIPC, "max_ipc_namespaces", func(s Set) bool { return s.IPC }},
	{"pid", unix.CLONE_NEWPID, "max_pid_namespaces", func(s Set) bool { return s.PID }},
}

// Any reports whether s selects a namespace.
func (s Set) Any() bool { return s.names() != nil }

// names returns the kinds that s selects.
func (s Set) names() (names []string) {
	for _, k := range kinds {
		if k.wanted(s) {
			names = append(names, k.name)
		}
	}
	return names
}

// flags returns the clone(2) flags of the namespaces to create.
func (s Set) flags() (flags uintptr) {
	for _, k := range kinds {
		if k.wanted(s) && !(k.name == "net" && s.Net != New) {
			flags |= k.flag
		}
	}
	return flags
}

// marker is the environment variable that holds the namespaces in which the program was started:
// "uts=uts:[4026531838] net=...".
const marker = "MINIVMM_OUTER_NAMESPACES"

// outer returns the marker's value for this process.
func (s Set) outer() (string, error) {
	var words []string
	for _, name := range s.names() {
		link, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			return "", err
		}
		words = append(words, name+"="+link)
	}
	return strings.Join(words, " "), nil
}

// Inside reports whether Enter has restarted this program, and removes the marker from the
// environment. It fails if the process has the marker but is not in the namespaces.
func (s Set) Inside() (bool, error) {
	text, ok := os.LookupEnv(marker)
	if !ok {
		return false, nil
	}
	os.Unsetenv(marker)
	from := map[string]string{}
	for _, word := range strings.Fields(text) {
		name, link, _ := strings.Cut(word, "=")
		from[name] = link
	}
	for _, name := range s.names() {
		now, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			return true, err
		}
		// A named network namespace may be the one in which minivmm was started.
		if from[name] == "" || from[name] == now && !(name == "net" && s.Net != New) {
			return true, fmt.Errorf("namespaces: %s is still %s, according to %s=%q: %w", name, now, marker, text, errors.ErrUnsupported)
		}
	}
	return true, nil
}

// explain adds the meaning of the kernel's error, and advice.
func (s Set) explain(op string, err error) error {
	err = fmt.Errorf("namespaces (%s): %s: %w", strings.Join(s.names(), ", "), op, err)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (%s)", err, s.limits())
	case errors.Is(err, fs.ErrPermission) && !s.User:
		return fmt.Errorf("%w (requires CAP_SYS_ADMIN: run as root, or set namespaces.user = true)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (this host does not allow its users to create user namespaces: see sysctl kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)", err)
	}
	return err
}

// limits names the kinds whose limit is reached, with the figures, or all kinds if none appears to
// be at its limit. It counts the namespaces in /proc, so it misses those that contain no process.
func (s Set) limits() string {
	var all, reached []string
	for _, k := range kinds {
		if s.flags()&k.flag == 0 {
			continue
		}
		b, _ := os.ReadFile("/proc/sys/user/" + k.limit)
		var limit int
		if n, _ := fmt.Sscan(string(b), &limit); n != 1 {
			continue
		}
		used := map[string]bool{}
		links, _ := filepath.Glob("/proc/[0-9]*/ns/" + k.name)
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil {
				used[to] = true
			}
		}
		// The first of each kind is the kernel's own and counts for no user.
		figure := fmt.Sprintf("user.%s is %d: the host has %d of them that contain processes", k.limit, limit, len(used))
		if all = append(all, figure); len(used) > limit {
			reached = append(reached, figure)
		}
	}
	if len(reached) > 0 {
		return strings.Join(reached, "; ")
	}
	return "a limit on namespaces is reached: " + strings.Join(all, "; ")
}
