package control

import (
	"bufio"
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

// Version is the protocol version.
const Version = 1

// Request is what a client sends.
type Request struct {
	Version int            `json:"version"`
	Command string         `json:"command"`
	Now     bool           `json:"now,omitempty"`  // stop: kill the guest without pressing its power button
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

// commands lists all commands.
var commands = []string{CommandAbout, CommandWorkers, CommandStop, CommandTune, CommandRescan}

// Response is what the server sends.
type Response struct {
	Version int                `json:"version"`
	Error   string             `json:"error,omitempty"`
	Misfit  bool               `json:"misfit,omitempty"` // the error is a *config.MisfitError
	About   *account.Machine   `json:"about,omitempty"`
	Workers *account.Report    `json:"workers,omitempty"`
	Disks   []account.DiskSize `json:"disks,omitempty"`
}

const (
	maxRequest  = 4 << 10
	maxResponse = 16 << 20
)

var errLong = errors.New("line longer")

// readLine reads up to a newline, at most max bytes including the newline.
func readLine(r io.Reader, max int64) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, max)).ReadBytes('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case err == io.EOF && int64(len(line)) == max:
		return nil, fmt.Errorf("%w than %d bytes", errLong, max)
	case err == io.EOF && len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// parseRequest parses and validates a request.
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
		return Request{}, fmt.Errorf("unsupported version %d: want %d", r.Version, Version)
	case !slices.Contains(commands, r.Command):
		return Request{}, fmt.Errorf("unknown command %q: want one of %s", r.Command, strings.Join(commands, ", "))
	case r.Now && r.Command != CommandStop:
		return Request{}, fmt.Errorf("key now is only valid for stop, not for %s", r.Command)
	case (r.Tune != nil) != (r.Command == CommandTune):
		return Request{}, errors.New("key tune is required for tune and invalid for other commands")
	}
	return r, nil
}
