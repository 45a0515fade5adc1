package disk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// Lock opens the image at path for reading and writing and locks it as a machine that uses it would, until the file is
// closed. One that is in use is EBUSY, and the error names the user.
func Lock(path string) (*os.File, error) {
	// O_NONBLOCK so that a fifo does not keep us waiting to be told no
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = inputErrorf("%s: not a regular file", path)
	}
	if err == nil {
		err = flock(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flock takes the exclusive lock of an open image.
func flock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return busy(f.Name(), "in use", f.Name())
	}
	if err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// busy is EBUSY for an image; doing says what the holder of the lock on the file or folder locked does.
func busy(image, doing, locked string) error {
	who := "another process"
	var st unix.Stat_t
	if unix.Stat(locked, &st) == nil {
		if name, known := holder(&st); known {
			who = name
		}
	}
	return fmt.Errorf("%s: %w (%s by %s)", image, unix.EBUSY, doing, who)
}

// holder names a process that holds a flock(2) on a file, without trying the lock: that could make a machine that
// starts right now fail. It looks into the processes' open files, and into /proc/locks for those of other users; the latter
// knows the files of overlayfs and btrfs by other numbers than stat(2) and misses those.
func holder(st *unix.Stat_t) (who string, ok bool) {
	infos, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*") // what cannot be read is just not named
	for _, path := range infos {
		info, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(info, []byte("FLOCK")) {
			continue
		}
		process := filepath.Dir(filepath.Dir(path))
		var held unix.Stat_t
		if unix.Stat(filepath.Join(process, "fd", filepath.Base(path)), &held) == nil && held.Dev == st.Dev && held.Ino == st.Ino {
			return processName(filepath.Base(process)), true
		}
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return "", false
	}
	defer locks.Close()
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	// "1: FLOCK  ADVISORY  WRITE 3937 08:01:1966 0 EOF"; a waiting one has "->" as its second word
	for sc := bufio.NewScanner(locks); sc.Scan(); {
		if w := strings.Fields(sc.Text()); len(w) > 5 && w[1] == "FLOCK" && w[5] == file {
			return processName(w[4]), true
		}
	}
	return "", false
}

func processName(pid string) string {
	comm, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid
	}
	// A process may call itself anything, and this goes to a terminal.
	name := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSuffix(string(comm), "\n"))
	return fmt.Sprintf("process %s, %s", pid, name)
}
