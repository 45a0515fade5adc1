package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// Version is that of the protocol.
const Version = 1

// Request is what a client sends.
type Request struct {
	Version int            `json:"version"`
	Command string         `json:"command"`
	Now     bool           `json:"now,omitempty"`  // stop: end the guest without asking it
	Tune    *config.Tuning `json:"tune,omitempty"` // tune: what to change
}

// The commands.
const (
	CommandAbout   = "about"
	CommandWorkers = "workers"
	CommandStop    = "stop"
	CommandTune    = "tune"
	CommandRescan  = "rescan"
)

// commands are all there are.
var commands = []string{CommandAbout, CommandWorkers, CommandStop, CommandTune, CommandRescan}

// Response is the answer.
type Response struct {
	Version int                `json:"version"`
	Error   string             `json:"error,omitempty"`
	About   *account.Machine   `json:"about,omitempty"`
	Workers *account.Report    `json:"workers,omitempty"`
	Disks   []account.DiskSize `json:"disks,omitempty"`
}

const (
	maxRequest  = 4 << 10
	maxResponse = 16 << 20
)

var errLong = errors.New("a line longer")

// readLine reads up to a newline, at most max bytes with it.
func readLine(r io.Reader, max int) ([]byte, error) {
	var line []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf[:min(len(buf), max-len(line))])
		line = append(line, buf[:n]...)
		if end := bytes.IndexByte(line[len(line)-n:], '\n'); end >= 0 {
			return line[:len(line)-n+end], nil
		}
		switch {
		case len(line) == max:
			return nil, fmt.Errorf("%w than %d bytes", errLong, max)
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
}

// parseRequest reads a request and checks all of it.
func parseRequest(line []byte) (Request, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var r Request
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Request{}, errors.New("request: more than one value on the line")
	}
	switch {
	case r.Version != Version:
		return Request{}, fmt.Errorf("version %d: this minivmm speaks version %d", r.Version, Version)
	case !slices.Contains(commands, r.Command):
		return Request{}, fmt.Errorf("no command %q: there are %s", r.Command, strings.Join(commands, ", "))
	case r.Now && r.Command != CommandStop:
		return Request{}, fmt.Errorf("now is for stop, not for %s", r.Command)
	case (r.Tune != nil) != (r.Command == CommandTune):
		return Request{}, errors.New("tune takes what to change, and no other command does")
	}
	return r, nil
}

// writeLine sends v on one line.
func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
