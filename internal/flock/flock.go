// Package flock locks files with flock(2), and finds the process that holds a lock.
package flock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// Try takes an exclusive flock(2) on an open file. The kernel releases the lock when the last
// descriptor of this open file is closed, even if that happens because the process is killed. The
// error matches unix.EWOULDBLOCK while another open file has the lock.
func Try(f *os.File) error { return try(f, unix.LOCK_EX) }

// TryShared is like Try, for a lock that any number of processes can share.
func TryShared(f *os.File) error { return try(f, unix.LOCK_SH) }

func try(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// Wait is like Try, but waits for the lock. If ctx is done first, Wait returns ctx.Err(). Wait
// polls, because a blocked flock(2) would hold a thread that nothing can interrupt.
func Wait(ctx context.Context, f *os.File) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := Try(f); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Holder returns the name of a process that holds a flock(2) on the file with the given stat; ok is
// false if none is found. Holder does not try to take the lock, because a VM that starts at the
// same moment could then fail to take it. Holder reads /proc/PID/fdinfo and, for processes of other
// users, /proc/locks. On overlayfs and btrfs, a file's numbers in /proc/locks differ from those in
// stat(2), so the search in /proc/locks does not find the file.
func Holder(st *unix.Stat_t) (who string, ok bool) {
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*") // unreadable files are skipped
	for _, path := range infos {
		info, err := os.ReadFile(path)
		if err != nil || !hasFlock(string(info)) {
			continue
		}
		process := filepath.Dir(filepath.Dir(path))
		var held unix.Stat_t
		if unix.Stat(filepath.Join(process, "fd", filepath.Base(path)), &held) == nil && held.Dev == st.Dev && held.Ino == st.Ino {
			return ProcessName(filepath.Base(process)), true
		}
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return "", false
	}
	defer locks.Close()
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	// "1: FLOCK  ADVISORY  WRITE 3937 08:01:1966 0 EOF"; a waiting lock has "->" as its second word
	for sc := bufio.NewScanner(locks); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) > 5 && w[1] == "FLOCK" && w[5] == file {
			return ProcessName(w[4]), true
		}
	}
	return "", false
}

// hasFlock reports whether an open file has a flock. info is the open file's text in
// /proc/PID/fdinfo, with lines such as "lock: 1: FLOCK ADVISORY WRITE 3937 08:01:1966 0 EOF".
func hasFlock(info string) bool {
	for line := range strings.Lines(info) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "lock:" && f[2] == "FLOCK" {
			return true
		}
	}
	return false
}

// ProcessName returns "process PID, NAME".
func ProcessName(pid string) string {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid
	}
	// A process can choose any name, and this text is printed to a terminal.
	name := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSuffix(string(comm), "\n"))
	return fmt.Sprintf("process %s, %s", pid, name)
}
