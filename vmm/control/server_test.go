package control

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// fake is a machine that records the requests.
type fake struct {
	about  account.Machine
	report error

	mu    sync.Mutex
	stops []bool
	tuned []config.Tuning
}

func (f *fake) About() account.Machine { return f.about }

func (f *fake) Report() (*account.Report, error) {
	if f.report != nil {
		return nil, f.report
	}
	return &account.Report{Machine: f.about, Roles: []account.Role{{Kind: account.Worker, Role: "net0", Usage: account.Usage{CPU: 7}}}}, nil
}

func (f *fake) Stop(now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stops = append(f.stops, now)
}

func (f *fake) Tune(t config.Tuning) error {
	if t.Device == "net7" {
		return &config.MisfitError{Problem: "no net7"}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tuned = append(f.tuned, t)
	return nil
}

func (f *fake) Rescan() ([]account.DiskSize, error) {
	return []account.DiskSize{{ID: "root", SizeBytes: 4096, Told: true}}, nil
}

// shortDir returns a directory whose name is short enough for a socket address.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serve claims a name and serves f there until the end of the test.
func serve(t *testing.T, candidates []string, name string, f Machine) (end func()) {
	t.Helper()
	n, err := claim(candidates, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Serve(f)
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := errors.Join(s.Close(), n.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return end
}

// panicky is a machine whose Report panics.
type panicky struct{ *fake }

func (panicky) Report() (*account.Report, error) { panic("out of order") }

// TestAPanicIsAnAnswer checks that a panic while handling a request is returned to the client, and
// that the server continues.
func TestAPanicIsAnAnswer(t *testing.T) {
	dir := filepath.Join(shortDir(t), "minivmm")
	serve(t, []string{dir}, "web", panicky{&fake{}})
	for range 2 * maxConns {
		if _, _, err := callName([]string{dir}, "web", Request{Command: CommandWorkers}); err == nil || !strings.Contains(err.Error(), "out of order") {
			t.Fatalf("%v", err)
		}
	}
}

func TestCalls(t *testing.T) {
	dir := filepath.Join(shortDir(t), "minivmm")
	f := &fake{about: account.Machine{Name: "web", PID: os.Getpid(), VCPUs: 2, Memory: 1 << 29}}
	end := serve(t, []string{dir}, "web", f)

	resp, pid, err := callName([]string{dir}, "web", Request{Command: CommandAbout})
	if err != nil || pid != os.Getpid() || *resp.About != f.about {
		t.Errorf("about: %+v from process %d, %v", resp, pid, err)
	}
	resp, _, err = callName([]string{dir}, "web", Request{Command: CommandWorkers})
	if err != nil || resp.Workers.Roles[0].CPU != 7 {
		t.Errorf("workers: %+v, %v", resp, err)
	}
	for _, now := range []bool{false, true} {
		if _, _, err := callName([]string{dir}, "web", Request{Command: CommandStop, Now: now}); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if want := []bool{false, true}; !reflect.DeepEqual(f.stops, want) {
		t.Errorf("stops %v, want %v", f.stops, want)
	}
	tuning := config.Tuning{Device: "net0", Affinity: config.CPUSet{1}, Nice: new(-5), BusyPoll: &config.Duration{Duration: 50 * time.Microsecond}}
	if _, _, err := callName([]string{dir}, "web", Request{Command: CommandTune, Tune: &tuning}); err != nil || !reflect.DeepEqual(f.tuned, []config.Tuning{tuning}) {
		t.Errorf("tuned %+v, %v", f.tuned, err)
	}
	_, _, err = callName([]string{dir}, "web", Request{Command: CommandTune, Tune: &config.Tuning{Device: "net7"}})
	if misfit, ok := errors.AsType[*config.MisfitError](err); !ok || misfit.Problem != "no net7" {
		t.Errorf("tune of a missing device: %v", err)
	}
	if resp, _, err = callName([]string{dir}, "web", Request{Command: CommandRescan}); err != nil || len(resp.Disks) != 1 || resp.Disks[0].SizeBytes != 4096 {
		t.Errorf("rescan: %+v, %v", resp, err)
	}
	found := find([]string{dir})
	if len(found) != 1 || found[0].Name != "web" || found[0].About != f.about {
		t.Errorf("found %+v", found)
	}
	end()
	if found := find([]string{dir}); len(found) != 0 {
		t.Errorf("found %+v after the machine stopped", found)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

// TestAnswers sends raw requests.
func TestAnswers(t *testing.T) {
	dir := shortDir(t)
	serve(t, []string{dir}, "web", &fake{report: errors.New("no /proc")})
	for _, test := range []struct{ name, request, want string }{
		{"two lines", `{"version":1,"command":"stop"}` + "\nand more\n", `{"version":1}`},
		{"other version", `{"version":2,"command":"about"}` + "\n", `{"version":1,"error":"unsupported version 2: want 1"}`},
		{"no command", `{"version":1}` + "\n", `{"version":1,"error":"unknown command \"\": want one of about, workers, stop, tune, rescan"}`},
		{"tune without a change", `{"version":1,"command":"tune"}` + "\n", `{"version":1,"error":"key tune is required for tune and invalid for other commands"}`},
		{"tune with another command", `{"version":1,"command":"about","tune":{}}` + "\n", `{"version":1,"error":"key tune is required for tune and invalid for other commands"}`},
		{"now with another command", `{"version":1,"command":"about","now":true}` + "\n", `{"version":1,"error":"key now is only valid for stop, not for about"}`},
		{"the machine's error", `{"version":1,"command":"workers"}` + "\n", `{"version":1,"error":"no /proc"}`},
		{"unknown key", `{"version":1,"command":"stop","noww":true}` + "\n", `{"version":1,"error":"request: json: unknown field \"noww\""}`},
		{"two values", `{"version":1,"command":"stop"} {}` + "\n", `{"version":1,"error":"request: more than one value on the line"}`},
		{"no JSON", "stop\n", `{"version":1,"error":"request: invalid character 's' looking for beginning of value"}`},
		{"long", strings.Repeat(" ", maxRequest), `{"version":1,"error":"line longer than 4096 bytes"}`},
		{"nothing", "", ""},
		{"half a line", `{"version":1,`, ""},
	} {
		conn, err := net.Dial("unix", filepath.Join(dir, "web.sock"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, test.request)
		conn.(*net.UnixConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		// If the server closes with unread input, the client gets a reset after the response.
		if got := strings.TrimSuffix(string(answer), "\n"); got != test.want || err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
		conn.Close()
	}
}

// TestAStoppingMachineAnswersOrIsNotRunning sends requests all the time: each gets a response or a
// NotRunningError.
func TestAStoppingMachineAnswersOrIsNotRunning(t *testing.T) {
	dir := shortDir(t)
	for range 200 {
		end := serve(t, []string{dir}, "web", &fake{})
		var asking sync.WaitGroup
		answered := make(chan struct{}, 4)
		for range cap(answered) {
			asking.Go(func() {
				once := sync.OnceFunc(func() { answered <- struct{}{} })
				for {
					_, _, err := callName([]string{dir}, "web", Request{Command: CommandWorkers})
					var missing *NotRunningError
					if errors.As(err, &missing) {
						return
					}
					if err != nil {
						t.Error(err)
						once()
						return
					}
					once()
				}
			})
		}
		for range cap(answered) {
			<-answered
		}
		end()
		asking.Wait()
	}
}

// TestFilesArePrivate checks the mode of a machine's files.
func TestFilesArePrivate(t *testing.T) {
	dir := shortDir(t)
	serve(t, []string{dir}, "web", &fake{})
	for _, name := range []string{"web.sock", "web.lock"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

// TestIdleConnectionsAreClosed fills the server with silent clients and closes it.
func TestIdleConnectionsAreClosed(t *testing.T) {
	dir := shortDir(t)
	end := serve(t, []string{dir}, "web", &fake{})
	var conns []net.Conn
	for range maxConns + 4 {
		conn, err := net.Dial("unix", filepath.Join(dir, "web.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	end()
	for _, conn := range conns {
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d, %v", n, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"command":"stop","now":true}` + "\n"))
	f.Add([]byte(`{"version":1,"command":"about"}` + "\n{}"))
	f.Add([]byte(`{"version":1,"command":"tune","tune":{"device":"net0","nice":"-5"}}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		line, err := readLine(strings.NewReader(string(b)), maxRequest)
		if err != nil {
			return
		}
		if len(line) >= maxRequest || strings.ContainsRune(string(line), '\n') {
			t.Fatalf("line %q", line)
		}
		r, err := parseRequest(line)
		if err != nil {
			return
		}
		var w strings.Builder
		if err := json.NewEncoder(&w).Encode(r); err != nil {
			t.Fatal(err)
		}
		if again, err := parseRequest([]byte(w.String())); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v is sent as %q, which parses as %+v, %v", r, w.String(), again, err)
		}
	})
}
