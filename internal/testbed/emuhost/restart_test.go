package emuhost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minivmm/guestimages/agent"
)

// fakeEnv makes this test binary act as QEMU. Its value is the path of a file that counts starts,
// then a space and one act for each start.
const fakeEnv = "EMUHOST_TEST_FAKE_QEMU"

func TestMain(m *testing.M) {
	if script := os.Getenv(fakeEnv); script != "" {
		os.Exit(fakeQEMU(script))
	}
	os.Exit(m.Run())
}

// fakeQEMU plays the host: it dies before its init runs, before the command starts or after that,
// or echoes its input.
func fakeQEMU(script string) int {
	file, acts, _ := strings.Cut(script, " ")
	b, _ := os.ReadFile(file)
	n, _ := strconv.Atoi(string(b))
	if err := os.WriteFile(file, []byte(strconv.Itoa(n+1)), 0o600); err != nil {
		return 1
	}
	conn := agent.NewConn(os.NewFile(channelFD, "channel"))
	receive := func() (agent.Kind, []byte) {
		kind, payload, err := conn.Receive()
		if err != nil {
			os.Exit(1)
		}
		return kind, payload
	}
	send := func(kind agent.Kind, payload string) { _ = conn.Send(kind, []byte(payload)) }
	panics := func() int {
		fmt.Printf("Oops number %d\nKernel panic - not syncing: Fatal exception\n", n+1)
		return 0
	}
	switch act := strings.Fields(acts)[n]; act {
	case "boot":
		return panics()
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "status":
		fmt.Fprintln(os.Stderr, "cannot set up guest memory")
		return 1
	case "settle", "run":
		receive()
		send(agent.KindHello, "")
		if act == "run" {
			send(agent.KindStart, "")
			send(agent.KindStdout, "half ")
		}
		return panics()
	}
	receive()
	send(agent.KindStart, "")
	for {
		switch kind, payload := receive(); kind {
		case agent.KindStdin:
			send(agent.KindStdout, string(payload))
			send(agent.KindStdinTaken, string([]byte{0, 0, 0, byte(len(payload))}))
		case agent.KindStdinEnd:
			send(agent.KindExit, `{"status":3}`)
		case agent.KindExitTaken:
			return 0
		}
	}
}

func TestHostThatDiesBeforeItsCommandIsRestarted(t *testing.T) {
	for _, tt := range []struct {
		acts   string
		starts string
		out    string
		died   string // "": the command ran
		log    []string
	}{
		{"echo", "1", "input", "", nil},
		{"boot echo", "2", "input", "", []string{"restarting it (1 of 2)", "Oops number 1"}},
		{"settle boot echo", "3", "input", "", []string{"restarting it (1 of 2)", "restarting it (2 of 2)", "Oops number 2"}},
		{"boot boot boot echo", "3", "", "kernel panic", []string{"restarting it (2 of 2)"}},
		{"signal echo", "2", "input", "", []string{"signal: killed"}},
		{"run echo", "1", "half ", "kernel panic", nil},
		{"boot run echo", "2", "half ", "kernel panic", []string{"restarting it (1 of 2)"}},
		// If QEMU itself refuses to start, it would refuse again.
		{"status echo", "1", "", "cannot set up guest memory", nil},
	} {
		t.Run(tt.acts, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			count := filepath.Join(t.TempDir(), "starts")
			t.Setenv(fakeEnv, count+" "+tt.acts)
			var log bytes.Buffer
			h := &Host{config: DefaultConfig(), logf: func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) }}
			h.qemu.Binary = self
			var out bytes.Buffer
			exit, err := h.Run(t.Context(), agent.Command{Argv: []string{"x"}}, agent.Streams{Stdin: strings.NewReader("input"), Stdout: &out, Stderr: io.Discard})
			var d *Death
			switch {
			case tt.died == "" && (err != nil || exit != agent.Exit{Status: 3}):
				t.Errorf("got %+v, %v", exit, err)
			case tt.died != "" && (!errors.As(err, &d) || !strings.Contains(d.Cause.Error(), tt.died)):
				t.Errorf("got %v, want a Death caused by %q", err, tt.died)
			}
			if starts, err := os.ReadFile(count); string(starts) != tt.starts {
				t.Errorf("%s starts, want %s (%v)", starts, tt.starts, err)
			}
			if out.String() != tt.out {
				t.Errorf("output %q, want %q", &out, tt.out)
			}
			for _, want := range tt.log {
				if !strings.Contains(log.String(), want) {
					t.Errorf("log lacks %q:\n%s", want, &log)
				}
			}
			if strings.Count(log.String(), "restarting it") != int(tt.starts[0]-'1') {
				t.Errorf("wrong number of restarts in the log:\n%s", &log)
			}
		})
	}
}
