package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
)

// systemd is a systemd manager, the system's or a user's: see org.freedesktop.systemd1(5),
// https://systemd.io/CGROUP_DELEGATION.
type systemd struct {
	uid int // 0 for the system's manager, otherwise the user whose manager this is
}

func (s systemd) startScope(unit, slice string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second) // D-Bus' own default
	defer cancel()
	who, absent, refused := s.names(unit)
	conn, bus, err := s.dial(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w (%s)", who, err, absent)
	}
	err = startScope(ctx, conn, bus, unit, slice)
	switch {
	case errors.Is(err, fs.ErrExist):
		return "", err
	case err != nil:
		return "", fmt.Errorf("%s at %s: %w (%s)", who, conn.RemoteAddr(), err, refused)
	}
	h, err := findHost()
	return h.home, err
}

// dial connects to the manager's own socket, or else to a message bus, as systemctl(1) does.
func (s systemd) dial(ctx context.Context) (conn net.Conn, bus bool, err error) {
	sockets := []string{"/run/systemd/private", "/run/dbus/system_bus_socket"}
	if s.uid != 0 {
		run := "/run/user/" + strconv.Itoa(s.uid) // user-runtime-dir@.service
		sockets = []string{run + "/systemd/private", run + "/bus"}
	}
	var errs []error
	for i, path := range sockets {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			deadline, _ := ctx.Deadline()
			return conn, i == 1, conn.SetDeadline(deadline)
		}
		errs = append(errs, err)
	}
	return nil, false, errors.Join(errs...)
}

// names returns texts for errors: the manager's name, and advice for when the manager does not
// answer (absent) or refuses the request (refused).
func (s systemd) names(unit string) (who, absent, refused string) {
	if s.uid == 0 {
		return "systemd", "systemd must be running, and /run must be the host's", "journalctl -u " + unit
	}
	return fmt.Sprintf("systemd of user %d", s.uid),
		fmt.Sprintf("loginctl enable-linger %d starts it, as does a login through PAM with libpam-systemd", s.uid),
		fmt.Sprintf("journalctl --user -u %s; a process of a login session can be moved only if the system has a D-Bus daemon, package dbus", unit)
}

const (
	managerName  = "org.freedesktop.systemd1"
	managerPath  = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerIface = managerName + ".Manager"
	errorName    = "org.freedesktop.DBus.Error."
)

// property is the D-Bus type (sv).
type property struct {
	Name  string
	Value dbus.Variant
}

// auxiliary is the D-Bus type (sa(sv)): further units to create.
type auxiliary struct {
	Name       string
	Properties []property
}

// scopeProperties returns the properties of systemd.scope(5), by their names on D-Bus.
func scopeProperties(unit, slice string) []property {
	all := []property{
		{"Description", dbus.MakeVariant("minivmm: " + unit)},
		{"PIDs", dbus.MakeVariant([]uint32{0})}, // 0 means the sender, whose PID may be different in the manager's PID namespace
		{"Delegate", dbus.MakeVariant(true)},
		// systemd forgets the unit when the unit stops, even after an out-of-memory kill.
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
	}
	if slice != "" {
		all = append(all, property{"Slice", dbus.MakeVariant(slice)})
	}
	return all
}

// startScope sends the request to start the scope over c, waits for the manager's job, and closes
// c. bus says whether c is connected to a message bus instead of to the manager itself.
func startScope(ctx context.Context, c net.Conn, bus bool, unit, slice string) error {
	// Not dbus.DialUnix: no file descriptors are passed.
	conn, err := dbus.NewConn(c, dbus.WithContext(ctx))
	if err != nil {
		return errors.Join(err, c.Close())
	}
	defer conn.Close()
	// No user name: the other end knows the user from the socket, even in a user namespace.
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal("")}); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	ended := make(chan *dbus.Signal, 16)
	conn.Signal(ended)
	manager := conn.Object(managerName, managerPath)
	if bus {
		if err := conn.Hello(); err != nil {
			return fmt.Errorf("hello: %w", err)
		}
		if err := conn.AddMatchSignal(dbus.WithMatchInterface(managerIface), dbus.WithMatchMember("JobRemoved")); err != nil {
			return fmt.Errorf("match JobRemoved: %w", err)
		}
		if err := manager.CallWithContext(ctx, managerIface+".Subscribe", 0).Err; err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	var job dbus.ObjectPath
	call := manager.CallWithContext(ctx, managerIface+".StartTransientUnit", 0, unit, "fail", scopeProperties(unit, slice), []auxiliary{})
	if err := call.Store(&job); err != nil {
		return fmt.Errorf("StartTransientUnit %s: %w", unit, meaning(err))
	}
	return waitForJob(ctx, ended, job, unit)
}

// waitForJob waits for the signal JobRemoved(u id, o job, s unit, s result).
func waitForJob(ctx context.Context, ended <-chan *dbus.Signal, job dbus.ObjectPath, unit string) error {
	for {
		select {
		case s, ok := <-ended:
			switch {
			case !ok:
				return fmt.Errorf("job of %s: %w", unit, net.ErrClosed)
			case s.Name != managerIface+".JobRemoved" || len(s.Body) != 4 || s.Body[1] != job:
				continue
			case s.Body[3] != "done":
				return fmt.Errorf("job of %s finished with result %q", unit, s.Body[3])
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("job of %s: %w", unit, ctx.Err())
		}
	}
}

// meaning adds to a D-Bus error the Go error with the same meaning.
func meaning(err error) error {
	e, ok := errors.AsType[dbus.Error](err)
	switch {
	case !ok:
		return err
	case e.Name == managerName+".UnitExists":
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	case e.Name == errorName+"AccessDenied", e.Name == errorName+"InteractiveAuthorizationRequired":
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return fmt.Errorf("%s: %w", e.Name, err)
}
