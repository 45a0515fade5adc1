package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxID is the largest uid or gid that an image's user may have: for the kernel 2^32-1 means "no
// change", and container runtimes stop at a signed integer.
const maxID = 1<<31 - 1

// become makes attr start its process as user, as defined by the root file system's own user and
// group files.
func become(user string, attr *os.ProcAttr) error {
	var databases [2]io.Reader
	for i, name := range []string{"/etc/passwd", "/etc/group"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			databases[i] = strings.NewReader("")
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		databases[i] = f
	}
	uid, gid, groups, home, err := credentialOf(user, databases[0], databases[1])
	if err != nil {
		return err
	}
	attr.Sys.Credential = &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}
	attr.Env = withHome(attr.Env, home)
	for _, f := range attr.Files {
		// Programs reopen their output, as /dev/stdout. Files that belong to nobody, as
		// /dev/null, or cannot change their owner, stay as they are.
		if info, err := f.Stat(); err == nil && !sharedDevice(info) {
			_ = f.Chown(int(uid), -1)
		}
	}
	return nil
}

// sharedDevice reports whether a file is a device that everybody may write to already.
func sharedDevice(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeCharDevice != 0 && info.Mode().Perm()&0o006 == 0o006
}

// withHome adds HOME to an environment that lacks it; nil is this process's own environment.
func withHome(env []string, home string) []string {
	if env == nil {
		env = os.Environ()
	}
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		return env
	}
	return append(slices.Clip(env), "HOME="+home)
}

// credentialOf looks up an image's user: name|uid[:group|gid], image-spec config.md, with Docker's
// rules. A number is an id and never a name; it needs no entry and then has group 0 and home /. The
// user's supplementary groups apply only if no group is given. passwd and group contain lines as in
// passwd(5) and group(5); malformed lines are skipped.
func credentialOf(user string, passwd, group io.Reader) (uid, gid uint32, groups []uint32, home string, err error) {
	wantUser, wantGroup, _ := strings.Cut(user, ":")
	if wantUser == "" {
		wantUser = "0"
	}
	entry, err := find(passwd, 7, wantUser)
	if err != nil {
		return 0, 0, nil, "", fmt.Errorf("user %q: /etc/passwd: %w", wantUser, err)
	}
	home = "/"
	switch {
	case entry != nil:
		uid, err = number(entry[2])
		if err == nil {
			gid, err = number(entry[3])
		}
		if entry[5] != "" {
			home = entry[5]
		}
	case digits(wantUser):
		uid, err = number(wantUser)
	default:
		err = errors.New("not in /etc/passwd")
	}
	if err != nil {
		return 0, 0, nil, "", fmt.Errorf("user %q: %w", wantUser, err)
	}
	switch {
	case wantGroup != "":
		gid, err = groupOf(wantGroup, group)
	case entry != nil:
		groups, err = groupsOf(entry[0], group)
	}
	if err != nil {
		return 0, 0, nil, "", err
	}
	return uid, gid, groups, home, nil
}

// groupOf looks up one group by name or number.
func groupOf(want string, group io.Reader) (gid uint32, err error) {
	if digits(want) {
		gid, err = number(want)
	} else {
		var entry []string
		entry, err = find(group, 3, want)
		switch {
		case err != nil:
			err = fmt.Errorf("/etc/group: %w", err)
		case entry == nil:
			err = errors.New("not in /etc/group")
		default:
			gid, err = number(entry[2])
		}
	}
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", want, err)
	}
	return gid, nil
}

// groupsOf returns the groups that list the user as a member.
func groupsOf(user string, group io.Reader) (groups []uint32, err error) {
	err = eachLine(group, 4, func(f []string) bool {
		gid, err := number(f[2])
		if err == nil && slices.Contains(strings.Split(f[3], ","), user) && !slices.Contains(groups, gid) {
			groups = append(groups, gid)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("/etc/group: %w", err)
	}
	return groups, nil
}

// find returns the fields of the first line whose name is want or, for a number, whose id is want.
// It returns nil if there is none.
func find(r io.Reader, fields int, want string) (found []string, err error) {
	field := 0
	if digits(want) {
		field = 2
	}
	err = eachLine(r, fields, func(f []string) bool {
		if f[field] == want {
			found = f
		}
		return found == nil
	})
	return found, err
}

// eachLine passes the fields of each line with at least that many fields to f, until f returns
// false.
func eachLine(r io.Reader, fields int, f func([]string) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(line) >= fields && line[0] != "" && !f(line) {
			return nil
		}
	}
	return lines.Err()
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > maxID {
		return 0, fmt.Errorf("%q is not an id from 0 to %d", s, maxID)
	}
	return uint32(n), nil
}
