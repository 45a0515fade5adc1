package cgroup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// fakeSystemd is the other end of a connection: it speaks D-Bus and answers as systemd does.
type fakeSystemd struct {
	bus     bool
	refuses string   // name of the error that StartTransientUnit returns
	results []string // results of jobs: the last is that of the requested job
	hangsUp bool     // closes the connection instead of sending the signal
	rejects bool     // rejects the user

	calls []string
	body  []any // the arguments of StartTransientUnit
}

const wantedJob = dbus.ObjectPath("/org/freedesktop/systemd1/job/42")

func (f *fakeSystemd) serve(c net.Conn) error {
	defer c.Close()
	in := bufio.NewReader(c)
	if zero, err := in.ReadByte(); err != nil || zero != 0 {
		return fmt.Errorf("first byte %d, %w", zero, err)
	}
	for began := false; !began; {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		answer := ""
		switch {
		case line == "AUTH\r\n":
			answer = "REJECTED EXTERNAL\r\n"
		case line == "AUTH EXTERNAL\r\n":
			answer = "DATA\r\n"
		case line == "DATA\r\n" && f.rejects:
			answer = "REJECTED EXTERNAL\r\n"
		case line == "DATA\r\n":
			answer = "OK 00112233445566778899aabbccddeeff\r\n"
		case line == "BEGIN\r\n":
			began = true
			continue
		default:
			answer = "ERROR\r\n"
		}
		if _, err := c.Write([]byte(answer)); err != nil {
			return err
		}
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return nil // the client closed the connection
		}
		member := m.Headers[dbus.FieldMember].Value().(string)
		f.calls = append(f.calls, member)
		var body []any
		switch member {
		case "Hello":
			body = []any{":1.7"}
		case "StartTransientUnit":
			f.body, body = m.Body, []any{wantedJob}
		}
		if member == "StartTransientUnit" && f.refuses != "" {
			err = send(c, m, dbus.TypeError, map[dbus.HeaderField]any{dbus.FieldErrorName: f.refuses}, []any{"it said why"})
		} else {
			err = send(c, m, dbus.TypeMethodReply, nil, body)
		}
		if err != nil {
			return err
		}
		if member != "StartTransientUnit" || f.refuses != "" {
			continue
		}
		if f.hangsUp {
			return nil
		}
		for i, result := range f.results {
			job := wantedJob
			if i < len(f.results)-1 {
				job += "0"
			}
			err := send(c, nil, dbus.TypeSignal, map[dbus.HeaderField]any{dbus.FieldInterface: managerIface, dbus.FieldMember: "JobRemoved", dbus.FieldPath: managerPath},
				[]any{uint32(42), job, "minivmm-web.scope", result})
			if err != nil {
				return err
			}
		}
	}
}

// send writes one message: a reply if to is not nil.
func send(c net.Conn, to *dbus.Message, kind dbus.Type, headers map[dbus.HeaderField]any, body []any) error {
	m := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{}, Body: body}
	for field, v := range headers {
		m.Headers[field] = dbus.MakeVariant(v)
	}
	if to != nil {
		m.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(to.Serial())
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	return m.EncodeTo(c, binary.LittleEndian)
}

// ask runs startScope against f.
func (f *fakeSystemd) ask(t *testing.T, slice string) error {
	t.Helper()
	dir := t.TempDir() + "/s"
	l, err := net.Listen("unix", dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = f.serve(c)
		}
		served <- err
	}()
	c, err := net.Dial("unix", dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	asked := startScope(ctx, c, f.bus, "minivmm-web.scope", slice)
	if err := <-served; err != nil && !f.rejects {
		t.Errorf("the other end: %v", err)
	}
	return asked
}

// TestSystemdIsAsked checks the requests, with a message bus and without.
func TestSystemdIsAsked(t *testing.T) {
	for _, c := range []struct {
		bus   bool
		slice string
		calls []string
	}{
		{false, "", []string{"StartTransientUnit"}},
		{true, "app.slice", []string{"Hello", "AddMatch", "Subscribe", "StartTransientUnit"}},
	} {
		f := &fakeSystemd{bus: c.bus, results: []string{"failed", "canceled", "done"}}
		if err := f.ask(t, c.slice); err != nil {
			t.Errorf("bus %v: %v", c.bus, err)
			continue
		}
		if !reflect.DeepEqual(f.calls, c.calls) {
			t.Errorf("bus %v: calls %q", c.bus, f.calls)
		}
		if len(f.body) != 4 || f.body[0] != "minivmm-web.scope" || f.body[1] != "fail" {
			t.Fatalf("asked with %v", f.body)
		}
		got := map[string]any{}
		for _, p := range f.body[2].([][]any) {
			got[p[0].(string)] = p[1].(dbus.Variant).Value()
		}
		want := map[string]any{"Description": "minivmm: minivmm-web.scope", "PIDs": []uint32{0}, "Delegate": true, "CollectMode": "inactive-or-failed"}
		if c.slice != "" {
			want["Slice"] = c.slice
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("properties %v, want %v", got, want)
		}
	}
}

func TestSystemdRefuses(t *testing.T) {
	for _, c := range []struct {
		f    fakeSystemd
		is   error
		want string
	}{
		{fakeSystemd{refuses: "org.freedesktop.systemd1.UnitExists"}, fs.ErrExist, "StartTransientUnit minivmm-web.scope: file already exists: it said why"},
		{fakeSystemd{bus: true, refuses: "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"}, fs.ErrPermission, "StartTransientUnit minivmm-web.scope: permission denied: it said why"},
		{fakeSystemd{refuses: "org.example.Other"}, nil, "StartTransientUnit minivmm-web.scope: org.example.Other: it said why"},
		{fakeSystemd{results: []string{"done", "failed"}}, nil, `job of minivmm-web.scope finished with result "failed"`},
		{fakeSystemd{hangsUp: true}, net.ErrClosed, "job of minivmm-web.scope: "},
		{fakeSystemd{rejects: true}, nil, "authenticate: "},
	} {
		err := c.f.ask(t, "")
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}

// TestNoSystemd: the error names every socket that was tried, and the remedy.
func TestNoSystemd(t *testing.T) {
	const nobody = 4_000_000_001 // a uid that no user has
	_, err := systemd{nobody}.startScope("minivmm-web.scope", "")
	for _, want := range []string{"systemd of user 4000000001: ", "/run/user/4000000001/systemd/private", "/run/user/4000000001/bus", "loginctl enable-linger 4000000001"} {
		if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
