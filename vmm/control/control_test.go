package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/userdir"
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
		return errors.New("no net7")
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
	if _, _, err := callName([]string{dir}, "web", Request{Command: CommandTune, Tune: &config.Tuning{Device: "net7"}}); err == nil || !strings.Contains(err.Error(), "no net7") {
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

func TestNames(t *testing.T) {
	dir := shortDir(t)
	for _, name := range []string{"", "-a", "a/b", "..", "A", "a b", strings.Repeat("a", 65)} {
		if _, err := claim([]string{dir}, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := callName([]string{dir}, name, Request{}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("call %q: %v", name, err)
		}
	}
	f := &fake{about: account.Machine{PID: 4711}} // as the machine sees it
	serve(t, []string{dir}, "web", f)
	_, err := claim([]string{dir}, "web")
	var taken *TakenError
	if !errors.As(err, &taken) || taken.PID != os.Getpid() || !errors.Is(err, unix.EBUSY) {
		t.Errorf("a taken name: %v", err)
	}
	_, _, err = callName([]string{dir}, "wbe", Request{Command: CommandAbout})
	var missing *NotRunningError
	if !errors.As(err, &missing) || err.Error() != `no machine named "wbe" is running (running: web)` {
		t.Errorf("an unknown name: %v", err)
	}
	// A machine that is starting: locked, without a socket.
	n, err := claim([]string{dir}, "db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim([]string{dir}, "db"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the name of a starting machine: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestOneNameInAllDirectories checks that two machines of one user cannot have the same name if
// their environments give them different preferred directories.
func TestOneNameInAllDirectories(t *testing.T) {
	dir := shortDir(t)
	session, tmp := filepath.Join(dir, "session"), filepath.Join(dir, "tmp")
	with, without := []string{session, tmp}, []string{filepath.Join(dir, "no/such"), tmp}
	serve(t, without, "web", &fake{})
	end := serve(t, with, "db", &fake{})
	for _, candidates := range [][]string{with, without} {
		for _, name := range []string{"web", "db"} {
			_, err := claim(candidates, name)
			var taken *TakenError
			// A machine that is only in the other's directories cannot be asked.
			if asked := name == "web" || candidates[0] == session; !errors.As(err, &taken) || (taken.PID == os.Getpid()) != asked {
				t.Errorf("%s in %v: %v", name, candidates, err)
			}
		}
	}
	if found := find(with); len(found) != 2 || found[0].Name != "db" || found[1].Name != "web" {
		t.Errorf("found %+v", found)
	}
	end()
	n, err := claim(without, "db")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(dir + "/*/db*"); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

// TestConcurrentClaimsAreExclusive claims and releases a name in several goroutines: no two have it
// at the same time.
func TestConcurrentClaimsAreExclusive(t *testing.T) {
	dir := shortDir(t)
	candidates := [][]string{{dir}, {filepath.Join(dir, "session"), dir}}
	var holders sync.Mutex
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				n, err := claim(candidates[i%2], "web")
				if errors.Is(err, unix.EBUSY) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !holders.TryLock() {
					t.Error("two machines have the name")
					return
				}
				mu.Lock()
				won++
				mu.Unlock()
				holders.Unlock()
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if won == 0 {
		t.Error("no machine got the name")
	}
}

// TestOneOfTwoClaimsSucceeds checks that one of two claims gets the name, whatever order each
// searches the directories in.
func TestOneOfTwoClaimsSucceeds(t *testing.T) {
	dir := shortDir(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	orders := [][]string{{a, b}, {b, a}}
	for _, candidates := range orders {
		if _, err := userdir.Make(candidates); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 500 {
		var names [2]*Name
		var errs [2]error
		var wg sync.WaitGroup
		for i := range names {
			wg.Go(func() { names[i], errs[i] = claim(orders[i], "web") })
		}
		wg.Wait()
		won := 0
		for i, n := range names {
			if n == nil {
				if !errors.Is(errs[i], unix.EBUSY) {
					t.Fatal(errs[i])
				}
				continue
			}
			won++
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d have the name, %v", round, won, errs)
		}
	}
}

// killedVar makes the test binary a machine that waits to be killed.
const killedVar = "MINIVMM_TEST_KILLED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedVar); dir != "" {
		n, err := claim([]string{dir}, "web")
		if err == nil {
			_, err = n.Serve(&fake{})
		}
		fmt.Println(err)
		select {}
	}
	os.Exit(m.Run())
}

// TestNameOfAKilledMachineIsFree kills a machine and claims its name.
func TestNameOfAKilledMachineIsFree(t *testing.T) {
	dir := shortDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), killedVar+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if found := find([]string{dir}); line != "<nil>\n" || len(found) != 1 {
		t.Errorf("the other machine: %q; found %+v", line, found)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Lstat(filepath.Join(dir, "web.sock")); err != nil {
		t.Errorf("the killed machine left no socket: %v", err)
	}
	if found := find([]string{dir}); len(found) != 0 {
		t.Errorf("found %+v", found)
	}
	var missing *NotRunningError
	if _, _, err := callName([]string{dir}, "web", Request{Command: CommandAbout}); !errors.As(err, &missing) {
		t.Errorf("call: %v", err)
	}
	serve(t, []string{dir}, "web", &fake{about: account.Machine{PID: 1}})
	if found := find([]string{dir}); len(found) != 1 || found[0].About.PID != os.Getpid() {
		t.Errorf("found %+v after the next claim", found)
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
		if err := writeLine(&w, r); err != nil {
			t.Fatal(err)
		}
		if again, err := parseRequest([]byte(w.String())); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%+v is sent as %q, which parses as %+v, %v", r, w.String(), again, err)
		}
	})
}
