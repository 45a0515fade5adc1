package emuhost

import (
	"bytes"
	"strings"
	"sync"
)

// logBytes is the number of bytes that kernelLog keeps at least, counted from the end of the log.
const logBytes = 64 << 10

// kernelLog keeps the last output of the host's serial console.
type kernelLog struct {
	mu   sync.Mutex
	kept []byte // guarded by mu; at most 2*logBytes
}

func (l *kernelLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, p...)
	if over := len(l.kept) - logBytes; over > logBytes {
		l.kept = append(l.kept[:0], l.kept[over:]...)
	}
	return len(p), nil
}

// tail returns the given number of last lines, without carriage returns.
func (l *kernelLog) tail(lines int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := bytes.ReplaceAll(l.kept, []byte("\r"), nil)
	all := strings.Split(strings.TrimSpace(string(kept)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (l *kernelLog) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.kept, []byte(s))
}
