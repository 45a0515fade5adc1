package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// maxID is the largest uid or gid that an image's user may have: to the kernel, 2^32-1 means "no
// change", and container runtimes accept at most a positive int32.
const maxID = 1<<31 - 1

// giveAway makes the user uid the owner of a process's standard files, because programs reopen
// their output as /dev/stdout. Devices that everybody may read and write, such as /dev/null, keep
// their owner, and so do files whose owner cannot be changed.
func giveAway(files []*os.File, uid int) {
	for _, f := range files {
		info, err := f.Stat()
		if err == nil && (info.Mode()&fs.ModeCharDevice == 0 || info.Mode().Perm()&0o006 != 0o006) {
			_ = f.Chown(uid, -1)
		}
	}
}

// credentialOf looks up an image's user in the files etc/passwd and etc/group of a root file
// system. The user has the form name|uid[:group|gid] (image-spec config.md) with Docker's rules. A
// number is an id and never a name; if no line has this id, the user's group is 0 and the home
// folder is /. The user's supplementary groups apply only if no group is given. Malformed lines are
// skipped.
func credentialOf(user string, root fs.FS) (c *syscall.Credential, home string, err error) {
	c, home = &syscall.Credential{}, "/"
	name, group, _ := strings.Cut(user, ":")
	name = cmp.Or(name, "0")
	entry, err := find(root, "etc/passwd", 7, name)
	switch {
	case err != nil:
	case entry != nil:
		home = cmp.Or(entry[5], home)
		if c.Uid, err = number(entry[2]); err == nil {
			c.Gid, err = number(entry[3])
		}
	case digits(name):
		c.Uid, err = number(name)
	default:
		err = errors.New("not in /etc/passwd")
	}
	if err != nil {
		return nil, "", fmt.Errorf("user %q: %w", name, err)
	}
	switch {
	case group != "":
		c.Gid, err = groupOf(root, group)
	case entry != nil:
		c.Groups, err = groupsOf(root, entry[0])
	}
	if err != nil {
		return nil, "", err
	}
	return c, home, nil
}

// groupOf looks up one group by name or number.
func groupOf(root fs.FS, want string) (gid uint32, err error) {
	id := want
	if !digits(want) {
		var entry []string
		entry, err = find(root, "etc/group", 3, want)
		switch {
		case err != nil:
		case entry == nil:
			err = errors.New("not in /etc/group")
		default:
			id = entry[2]
		}
	}
	if err == nil {
		gid, err = number(id)
	}
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", want, err)
	}
	return gid, nil
}

// groupsOf returns the ids of the groups that list the user as a member.
func groupsOf(root fs.FS, user string) (groups []uint32, err error) {
	err = eachLine(root, "etc/group", 4, func(f []string) bool {
		gid, err := number(f[2])
		if err == nil && slices.Contains(strings.Split(f[3], ","), user) && !slices.Contains(groups, gid) {
			groups = append(groups, gid)
		}
		return true
	})
	return groups, err
}

// find returns the fields of the first line that has the wanted id or name, or nil. If want is a
// number, find compares it with the id, otherwise with the name.
func find(root fs.FS, file string, fields int, want string) (found []string, err error) {
	field := 0
	if digits(want) {
		field = 2
	}
	err = eachLine(root, file, fields, func(f []string) bool {
		if f[field] == want {
			found = f
		}
		return found == nil
	})
	return found, err
}

// eachLine calls f with the fields of each line of a file in the format of passwd(5) or group(5),
// until f returns false. It skips lines with too few fields. A missing file has no lines.
func eachLine(root fs.FS, file string, fields int, f func([]string) bool) error {
	r, err := root.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(line) >= fields && line[0] != "" && !f(line) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("/%s: %w", file, err)
	}
	return nil
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
