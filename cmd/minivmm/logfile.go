package main

import (
	"cmp"
	"os"
	"path/filepath"
)

// logSize is the default maximum size of a console's log file, in bytes.
const logSize = 16 << 20

// logFile is a file that output is appended to. When it reaches its limit it is renamed to NAME.1,
// replacing an earlier NAME.1, and a new file is started. So the newest output is kept, in at most
// twice the limit. Write and Close must be called by one goroutine.
type logFile struct {
	*os.File
	size, limit int64
}

func openLog(name string, limit int64) (*logFile, error) {
	l := &logFile{limit: cmp.Or(limit, logSize)}
	return l, l.open(name, 0o600)
}

func (l *logFile) open(name string, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.File, l.size = f, info.Size()
	return nil
}

func (l *logFile) Write(p []byte) (int, error) {
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		l.rotate()
	}
	n, err := l.File.Write(p)
	l.size += int64(n)
	return n, err
}

// rotate starts a new file. If the old file cannot be renamed or the new one cannot be created, as
// in a directory of another user, the old file is truncated, which keeps the limit. A terminal, a
// pipe and other special files have no size and stay.
func (l *logFile) rotate() {
	name, old := l.Name(), l.File
	info, err := old.Stat()
	if err != nil || !info.Mode().IsRegular() {
		l.size = 0
		return
	}
	if file, err := filepath.EvalSymlinks(name); err == nil {
		name = file
	}
	// If someone else moved the file, create a new one under the name and rename nothing.
	if now, statErr := os.Stat(name); statErr == nil && os.SameFile(info, now) {
		err = os.Rename(name, name+".1")
	}
	if err == nil {
		err = l.open(name, info.Mode().Perm())
	}
	if err != nil {
		l.size = 0
		old.Truncate(0)
		return
	}
	old.Close()
}
