package main

import (
	"os"
	"path/filepath"
)

// logSize is how large a console's file becomes unless the configuration says otherwise.
const logSize = 16 << 20

// logFile is a file that output is appended to. When it has its full size it becomes NAME.1, in
// place of an earlier one, and a new file begins: so the newest output is kept, in twice the size
// at most. One goroutine writes and closes.
type logFile struct {
	*os.File
	size, limit int64
}

func openLog(name string, limit int64) (*logFile, error) {
	if limit == 0 {
		limit = logSize
	}
	l := &logFile{limit: limit}
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

// rotate starts a new file. Where none can be made, as in a folder of another user, the old one is
// emptied, which keeps the limit. What is no file, such as a terminal or a pipe, has no size and
// stays.
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
	// Of a file that someone else moved, only the name is taken again.
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
