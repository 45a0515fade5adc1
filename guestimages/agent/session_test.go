package agent

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

// serve runs a session against the given machine, which has already received the command.
func serve(t *testing.T, streams Streams, machine func(*Conn)) (Exit, error) {
	t.Helper()
	near, far := net.Pipe()
	s := NewSession(near, Command{}, streams)
	t.Cleanup(s.Close)
	t.Cleanup(func() { near.Close() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer far.Close()
		conn := NewConn(far)
		if kind, _, err := conn.Receive(); err != nil || kind != KindRun {
			t.Errorf("got %q, %v as the first frame", kind, err)
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
func send(conn *Conn, kind Kind, payload string) { _ = conn.Send(kind, []byte(payload)) }

// drain receives until the session ends.
func drain(conn *Conn) {
	for {
		if _, _, err := conn.Receive(); err != nil {
			return
		}
	}
}

func TestOutputComesBeforeTheExit(t *testing.T) {
	var stdout, stderr bytes.Buffer
	exit, err := serve(t, Streams{Stdout: &stdout, Stderr: &stderr}, func(conn *Conn) {
		go drain(conn)
		send(conn, KindHello, "")
		send(conn, KindStdout, "out")
		send(conn, KindStderr, "err")
		send(conn, '?', "a kind that nobody knows")
		send(conn, KindStdinTaken, "short")
		send(conn, KindStdout, "put")
		send(conn, KindExit, `{"status":3}`)
		send(conn, KindExit, `{"status":4}`)
		send(conn, KindStdout, "late")
	})
	if err != nil || exit != (Exit{Status: 3}) || stdout.String() != "output" || stderr.String() != "err" {
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
		_, err := serve(t, Streams{}, func(conn *Conn) {
			go drain(conn)
			send(conn, KindExit, message)
		})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", message, err, want)
		}
	}
}

// TestInputIsNotSentAheadOfTheWindow uses a machine that reports bytes as consumed that it never
// received.
func TestInputIsNotSentAheadOfTheWindow(t *testing.T) {
	all := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	near, far := net.Pipe()
	defer near.Close()
	s := NewSession(near, Command{}, Streams{})
	for range 3 {
		s.give(binary.BigEndian.Uint32(all))
	}
	if n := <-s.taken; n != Window {
		t.Errorf("%d bytes may be sent, want %d", n, Window)
	}
	s.give(7)
	s.give(5)
	if n := <-s.taken; n != 12 {
		t.Errorf("%d bytes may be sent, want 12", n)
	}
	far.Close()
}

func TestInputWaitsUntilTheCommandTakesIt(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 3*Window/16)
	var got []byte
	exit, err := serve(t, Streams{Stdin: bytes.NewReader(want)}, func(conn *Conn) {
		send(conn, KindStart, "")
		send(conn, KindStart, "once more, as no machine should")
		ahead := 0
		for {
			kind, payload, err := conn.Receive()
			if err != nil {
				t.Error(err)
				return
			}
			if kind == KindStdinEnd {
				break
			}
			got = append(got, payload...)
			if ahead += len(payload); ahead > Window {
				t.Errorf("%d bytes are outstanding", ahead)
				return
			}
			if ahead == Window || len(got) == len(want) {
				send(conn, KindStdinTaken, string(binary.BigEndian.AppendUint32(nil, uint32(ahead))))
				ahead = 0
			}
		}
		go drain(conn)
		send(conn, KindExit, `{"status":0}`)
	})
	if err != nil || exit != (Exit{}) || !bytes.Equal(got, want) {
		t.Errorf("got %+v, %v and %d bytes, want %d", exit, err, len(got), len(want))
	}
}

func TestMachineThatEndsBeforeItsCommandIsAnError(t *testing.T) {
	for name, machine := range map[string]func(*Conn){
		"at once":                func(*Conn) {},
		"after some output":      func(conn *Conn) { send(conn, KindStart, ""); send(conn, KindStdout, "x") },
		"with a frame too large": func(conn *Conn) { send(conn, KindStdout, strings.Repeat("x", 17<<20)) },
	} {
		// Standard input that never ends must not block anything.
		stdin, keys := io.Pipe()
		if exit, err := serve(t, Streams{Stdin: stdin, Stdout: io.Discard}, machine); err == nil {
			t.Errorf("%s: got %+v", name, exit)
		}
		keys.Close()
	}
}

func TestInputOfACommandThatNeverStartsIsNotRead(t *testing.T) {
	input := strings.NewReader("input")
	near, far := net.Pipe()
	s := NewSession(near, Command{}, Streams{Stdin: input})
	defer s.Close()
	go func() {
		conn := NewConn(far)
		_, _, _ = conn.Receive()
		send(conn, KindHello, "")
		far.Close()
	}()
	if exit, err := s.Run(); err == nil || s.Started() || input.Len() != len("input") {
		t.Errorf("got %+v, %v, started %v, %d bytes of input left", exit, err, s.Started(), input.Len())
	}
}
