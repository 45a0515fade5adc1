package namespace

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Set says which namespaces are to be the program's own.
type Set struct {
	Net      string // "": the host's; New; or the name of one in /run/netns
	Mount    bool
	UTS      bool
	Hostname string // with UTS
	IPC      bool
	User     bool // the user is its root, and there is nobody else
	PID      bool // with Mount, for its own /proc
}

// New is a network namespace that is made.
const New = "new"

// kinds are the kinds of namespaces by their names in /proc/PID/ns, in the order in which they are told.
var kinds = [...]struct {
	name   string
	flag   uintptr
	limit  string // in /proc/sys/user
	wanted func(Set) bool
}{
	{"user", unix.CLONE_NEWUSER, "max_user_namespaces", func(s Set) bool { return s.User }},
	{"net", unix.CLONE_NEWNET, "max_net_namespaces", func(s Set) bool { return s.Net != "" }},
	{"mnt", unix.CLONE_NEWNS, "max_mnt_namespaces", func(s Set) bool { return s.Mount || s.PID }},
	{"uts", unix.CLONE_NEWUTS, "max_uts_namespaces", func(s Set) bool { return s.UTS }},
	{"ipc", unix.CLONE_NEWIPC, "max_ipc_namespaces", func(s Set) bool { return s.IPC }},
	{"pid", unix.CLONE_NEWPID, "max_pid_namespaces", func(s Set) bool { return s.PID }},
}

// Any says whether there is one.
func (s Set) Any() bool { return s.names() != nil }

// names are the kinds that are wanted.
func (s Set) names() (names []string) {
	for _, k := range kinds {
		if k.wanted(s) {
			names = append(names, k.name)
		}
	}
	return names
}

// flags are for the namespaces that are to be made.
func (s Set) flags() (flags uintptr) {
	for _, k := range kinds {
		if k.wanted(s) && !(k.name == "net" && s.Net != New) {
			flags |= k.flag
		}
	}
	return flags
}

// marker is the environment variable that tells the program begun anew which
// namespaces it comes from: "uts=uts:[4026531838] net=...".
const marker = "MINIVMM_OUTER_NAMESPACES"

// outer is the marker's text for this process.
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

// Inside says whether Enter has done its work, and takes its mark out of the
// environment. An error is a process that has the mark and not the namespaces.
func (s Set) Inside() (bool, error) {
	text, ok := os.LookupEnv(marker)
	if !ok {
		return false, nil
	}
	os.Unsetenv(marker)
	return true, s.check(text, os.Readlink)
}

func (s Set) check(text string, readlink func(string) (string, error)) error {
	from := map[string]string{}
	for _, word := range strings.Fields(text) {
		name, link, _ := strings.Cut(word, "=")
		from[name] = link
	}
	for _, name := range s.names() {
		now, err := readlink("/proc/self/ns/" + name)
		if err != nil {
			return err
		}
		// A named network namespace may be the one that minivmm was started in.
		if from[name] == "" || from[name] == now && !(name == "net" && s.Net != New) {
			return fmt.Errorf("namespaces: %s is still %s, by %s=%q: %w", name, now, marker, text, errors.ErrUnsupported)
		}
	}
	return nil
}
