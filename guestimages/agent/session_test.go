package session

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"minivmm/guestimages/plan"
	"minivmm/guestimages/wire"
)

// serve runs a session whose machine is the given function, which has got the command.
func serve(t *testing.T, c Command, machine func(*wire.Conn)) (plan.Exit, error) {
	t.Helper()
	near, far := net.Pipe()
	s := New(near, c)
	t.Cleanup(s.Close)
	t.Cleanup(func() { near.Close() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer far.Close()
		conn := wire.New(far)
		if kind, _, err := conn.Receive(); err != nil || kind != wire.Run {
			t.Errorf("got %q, %v first of all", kind, err)
			return
		}
		machine(conn)
	}()
	exit, err := s.Run()
	near.Close()
	<-ended
	return exit, err
}

// send sends a frame to a session that may have ended already.
func send(conn *wire.Conn, kind wire.Kind, payload string) { _ = conn.Send(kind, []byte(payload)) }

// drain receives until the session ends.
func drain(conn *wire.Conn) {
	for {
		if _, _, err := conn.Receive(); err != nil {
			return
		}
	}
}

func TestOutputComesBeforeTheExit(t *testing.T) {
	var stdout, stderr bytes.Buffer
	exit, err := serve(t, Command{Stdout: &stdout, Stderr: &stderr}, func(conn *wire.Conn) {
		go drain(conn)
		send(conn, wire.Hello, "")
		send(conn, wire.Stdout, "out")
		send(conn, wire.Stderr, "err")
		send(conn, '?', "a kind that nobody knows")
		send(conn, wire.StdinTaken, "short")
		send(conn, wire.Stdout, "put")
		send(conn, wire.Exit, `{"status":3}`)
		send(conn, wire.Exit, `{"status":4}`)
		send(conn, wire.Stdout, "late")
	})
	if err != nil || exit != (plan.Exit{Status: 3}) || stdout.String() != "output" || stderr.String() != "err" {
		t.Errorf("got %+v, %v, %q, %q", exit, err, stdout.String(), stderr.String())
	}
}

func TestExitIsWhatAProcessCanHave(t *testing.T) {
	for message, want := range map[string]string{
		`{"status":255}`:                  "",
		`{"status":0,"signal":64}`:        "",
		`{"status":127,"error":"x"}`:      "",
		`{"status":256}`:                  "exit message: status 256",
		`{"status":-1}`:                   "exit message: status -1",
		`{"status":0,"signal":-128}`:      "signal -128",
		`{"status":0,"signal":128}`:       "signal 128",
		`{"status":1e3}`:                  "exit message",
		`{"status":99999999999999999999}`: "exit message",
		`7`:                               "exit message",
		``:                                "exit message",
	} {
		_, err := serve(t, Command{}, func(conn *wire.Conn) {
			go drain(conn)
			send(conn, wire.Exit, message)
		})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", message, err, want)
		}
	}
}

// TestInputIsNotSentAheadOfTheWindow has a machine that says it took what it never got.
func TestInputIsNotSentAheadOfTheWindow(t *testing.T) {
	all := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	near, far := net.Pipe()
	defer near.Close()
	s := New(near, Command{})
	for range 3 {
		s.give(binary.BigEndian.Uint32(all))
	}
	if s.credit != wire.Window {
		t.Errorf("%d bytes may be sent, want %d", s.credit, wire.Window)
	}
	if n := s.take(100); n != 100 {
		t.Errorf("took %d", n)
	}
	s.give(7)
	if s.credit != wire.Window-93 {
		t.Errorf("%d bytes may be sent, want %d", s.credit, wire.Window-93)
	}
	far.Close()
}

func TestInputWaitsUntilTheCommandTakesIt(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 3*wire.Window/16)
	var got []byte
	exit, err := serve(t, Command{Stdin: bytes.NewReader(want)}, func(conn *wire.Conn) {
		ahead := 0
		for {
			kind, payload, err := conn.Receive()
			if err != nil {
				t.Error(err)
				return
			}
			if kind == wire.StdinEnd {
				break
			}
			got = append(got, payload...)
			if ahead += len(payload); ahead > wire.Window {
				t.Errorf("%d bytes wait", ahead)
				return
			}
			if ahead == wire.Window || len(got) == len(want) {
				send(conn, wire.StdinTaken, string(binary.BigEndian.AppendUint32(nil, uint32(ahead))))
				ahead = 0
			}
		}
		go drain(conn)
		send(conn, wire.Exit, `{"status":0}`)
	})
	if err != nil || exit != (plan.Exit{}) || !bytes.Equal(got, want) {
		t.Errorf("got %+v, %v and %d bytes, want %d", exit, err, len(got), len(want))
	}
}

func TestMachineThatEndsBeforeItsCommandIsAnError(t *testing.T) {
	for name, machine := range map[string]func(*wire.Conn){
		"at once":                func(*wire.Conn) {},
		"after some output":      func(conn *wire.Conn) { send(conn, wire.Stdout, "x") },
		"with a frame too large": func(conn *wire.Conn) { send(conn, wire.Stdout, strings.Repeat("x", 17<<20)) },
	} {
		// Standard input that never ends must not hold anything up.
		stdin, keys := io.Pipe()
		if exit, err := serve(t, Command{Stdin: stdin, Stdout: io.Discard}, machine); err == nil {
			t.Errorf("%s: got %+v", name, exit)
		}
		keys.Close()
	}
}
