// Package pcap writes captures of Ethernet frames for tcpdump and tshark, in the classic format
// with nanoseconds (draft-ietf-opsawg-pcap, magic number 0xA1B23C4D), little-endian.
//
// [File.Write] copies a frame and does not block: a goroutine of the File writes to disk. If this
// goroutine cannot keep up, frames are dropped and counted. A failed write, such as on a full disk,
// stops the capture and has no other effect. The caller must call Close. All functions and methods
// are safe for concurrent use.
package pcap

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/task"
)

const (
	magic      = 0xa1b23c4d
	linkType   = 1 // LINKTYPE_ETHERNET
	snapLen    = 1 << 18
	headerSize = 24
	recordSize = 16

	maxQueue = 4 << 20 // maximum bytes of queued frames
)

// File is an open capture.
type File struct {
	logf  func(format string, args ...any)
	out   *os.File
	limit int64
	tasks *task.Group

	mu      sync.Mutex
	more    sync.Cond // signalled when a frame is queued, and by Close
	queue   [][]byte  // records
	bytes   int       // bytes in queue
	size    int64     // bytes of the file, including the queue
	dropped int
	ended   bool // no more frames are accepted
	closed  bool
}

// Create starts a capture of at most limit bytes. It replaces an existing capture; any other
// existing file is an error. logf logs one line, without newline. The caller must call Close.
func Create(name string, limit int64, logf func(format string, args ...any)) (*File, error) {
	out, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOCTTY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := begin(out); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return start(out, limit, logf), nil
}

// start starts a capture that appends to out, which holds only the header.
func start(out *os.File, limit int64, logf func(format string, args ...any)) *File {
	f := &File{logf: logf, out: out, limit: limit, size: headerSize}
	f.more.L = &f.mu
	f.tasks = task.New(f.end)
	f.tasks.Go(f.run)
	return f
}

// end stops the capture because of an error.
func (f *File) end(err error) {
	f.logf("capture stopped: %v", err)
	f.mu.Lock()
	f.ended, f.queue, f.bytes = true, nil, 0
	f.mu.Unlock()
}

// begin truncates a file and writes the header.
func begin(out *os.File) error {
	info, err := out.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", out.Name())
	}
	if info.Size() > 0 {
		var m [4]byte
		if _, err := out.ReadAt(m[:], 0); err != nil || !isCapture(binary.LittleEndian.Uint32(m[:])) {
			return fmt.Errorf("%s: %w and is not a capture, so it is not replaced", out.Name(), os.ErrExist)
		}
		if err := out.Truncate(0); err != nil {
			return err
		}
	}
	return binary.Write(out, binary.LittleEndian, struct {
		magic, version    uint32
		_                 uint64
		snapLen, linkType uint32
	}{magic, 4<<16 | 2, 0, snapLen, linkType})
}

// isCapture reports whether m is the magic number of a pcap file (with microseconds or with
// nanoseconds) or of a pcapng file.
func isCapture(m uint32) bool {
	return m == magic || m == 0xa1b2c3d4 || m == 0x0a0d0d0a
}

// Write copies a frame, given in pieces, and queues the copy. If fix is not nil, Write first calls
// it, and it may change the copy.
func (f *File) Write(fix func(frame []byte), pieces ...[]byte) {
	now := time.Now()
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended:
		return
	case f.size+int64(recordSize+n) > f.limit:
		f.ended = true
		f.logf("%s has reached its maximum size: further frames are not captured", f.out.Name())
		return
	case f.bytes+recordSize+n > maxQueue:
		f.dropped++
		return
	}
	r := make([]byte, 0, recordSize+n)
	for _, word := range []uint32{uint32(now.Unix()), uint32(now.Nanosecond()), uint32(n), uint32(n)} {
		r = binary.LittleEndian.AppendUint32(r, word)
	}
	for _, p := range pieces {
		r = append(r, p...)
	}
	if fix != nil {
		fix(r[recordSize:])
	}
	f.queue = append(f.queue, r)
	f.bytes += len(r)
	f.size += int64(len(r))
	f.more.Signal()
}

// run writes queued frames.
func (f *File) run(context.Context) error {
	w := bufio.NewWriterSize(f.out, 64<<10)
	for {
		f.mu.Lock()
		for len(f.queue) == 0 && !f.closed {
			f.more.Wait()
		}
		queue := f.queue
		f.queue = nil
		f.mu.Unlock()
		if len(queue) == 0 {
			return nil
		}
		var err error
		for _, r := range queue {
			if err == nil {
				_, err = w.Write(r)
			}
			f.mu.Lock()
			f.bytes -= len(r)
			f.mu.Unlock()
		}
		if err == nil {
			err = w.Flush() // so that a reader sees all frames while the machine runs
		}
		if err != nil {
			f.end(err)
			return nil
		}
	}
}

// Close writes the queued frames, logs how many were dropped, and closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	f.closed, f.ended = true, true
	f.more.Signal()
	dropped := f.dropped
	f.mu.Unlock()
	err := f.tasks.Stop()
	if dropped > 0 {
		f.logf("%s: dropped %d frames that arrived faster than they could be written", f.out.Name(), dropped)
	}
	return errors.Join(err, f.out.Close())
}
