package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// progress is a writer that prefixes each line with the seconds since the start time.
type progress struct {
	w     io.Writer
	start time.Time

	mu   sync.Mutex
	line []byte // guarded by mu: the incomplete last line
}

func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(b)
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			p.line = append(p.line, b...)
			return n, nil
		}
		p.line = append(p.line, b[:end]...)
		b = b[end+1:]
		if _, err := fmt.Fprintf(p.w, "%4.0fs  %s\n", time.Since(p.start).Seconds(), p.line); err != nil {
			return n - len(b), err
		}
		p.line = p.line[:0]
	}
}

func (p *progress) printf(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }
