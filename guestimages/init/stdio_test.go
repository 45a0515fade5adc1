package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"minivmm/guestimages/agent"
)

// TestInputIsPassedOnAndReported queues input faster than the command reads it.
func TestInputIsPassedOnAndReported(t *testing.T) {
	s, err := newStdio(nil)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	go s.feed(agent.NewConn(near))
	want := bytes.Repeat([]byte("0123456789abcdef"), agent.Window/16)
	for part := want; len(part) > 0; part = part[min(len(part), 1000):] {
		s.addInput(bytes.Clone(part[:min(len(part), 1000)]))
	}
	s.endInput()
	s.addInput([]byte("after the end"))
	s.endInput()
	taken := make(chan uint32)
	go func() {
		defer close(taken)
		conn := agent.NewConn(far)
		for sum := uint32(0); sum < uint32(len(want)); {
			_, payload, err := conn.Receive()
			if err != nil {
				return
			}
			sum += binary.BigEndian.Uint32(payload)
			taken <- sum
		}
	}()
	var total uint32
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		for total = range taken {
		}
	}()
	got, err := io.ReadAll(s.theirs[0])
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
	<-reported
	if total != uint32(len(want)) {
		t.Errorf("%d bytes were reported, want %d", total, len(want))
	}
}
