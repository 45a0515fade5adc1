// Package cgroup puts this process into a cgroup (version 2) of its own, sets limits there, and
// removes the cgroup afterwards.
//
// # Where
//
// The cgroup is created below the cgroup in which the process was started. Under systemd, that
// cgroup must belong to a unit that systemd delegated (systemd marks those with an extended
// attribute). If it does not, the package asks systemd over D-Bus for a scope: a delegated unit
// that contains this process and exits with it. Root asks the system's manager, other users ask
// their own. Without systemd, root may also use the root of the hierarchy. A cgroup that contains
// processes cannot enable controllers for its children (the kernel's "no internal processes" rule;
// the root is exempt), so this process must be alone there, or the controllers must be enabled
// already. No other process is ever moved.
//
//	HOME                  where the process was, or the scope; controllers are enabled here
//	└── minivmm.NAME      the limits; memory is accounted here ("domain threaded" if it has children)
//	    ├── vcpu          threads that called Group.EnterVCPU ("threaded")
//	    └── io            all other threads ("threaded")
//
// The children exist if shares are configured. A new thread inherits the cgroup of the thread that
// created it, and the Go runtime creates no thread from one that a goroutine is locked to. So every
// thread that is not a vCPU's is in io, including the one that issues VHOST_SET_OWNER. The worker
// is a copy of that thread, so it is in io from its first instruction. A worker that is a kernel
// thread (Linux before 6.4) is there too, because the kernel attaches it to its creator's cgroup.
//
// # Cleanup
//
// [Group.Close] moves the process back and removes the cgroup. A killed process leaves a cgroup
// without processes, and the kernel removes only such cgroups. So [Make] tries to remove every
// cgroup that has one of our names. It does not check PIDs, because it may be in a PID namespace.
//
// Machines that start and stop at the same time below one cgroup take turns, with a flock(2) on its
// folder. Without it, one would disable a controller that another has just found enabled.
//
// Source: Documentation/admin-guide/cgroup-v2.rst; kernel/cgroup/cgroup.c.
//
// A process has one Group at a time. Its methods are safe for concurrent use.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Setting is one write to a file of the cgroup.
type Setting struct {
	Key   string // the configuration key that sets it, for errors: "limits.cpu_max"
	File  string // "cpu.max"
	Value string // in the format the kernel reads
}

// controller returns the controller that the file belongs to.
func (s Setting) controller() string {
	c, _, _ := strings.Cut(s.File, ".")
	return c
}

// Config describes the cgroup to create.
type Config struct {
	Name     string    // the machine's name: a-z, 0-9 and '-'
	Settings []Setting // written in this order

	// Settings of the two children, for threaded controllers: cpu, cpuset. Both empty: no children.
	VCPU, IO []Setting
}

func (c Config) settings() []Setting { return slices.Concat(c.Settings, c.VCPU, c.IO) }

// keys returns the keys of settings, each once, for errors.
func keys(settings []Setting) string {
	return strings.Join(each(settings, func(s Setting) string { return s.Key }), ", ")
}

// each returns text(s) for each setting s, without repetitions.
func each(settings []Setting, text func(Setting) string) (all []string) {
	for _, s := range settings {
		if t := text(s); !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// Group is a cgroup that contains this process.
type Group struct {
	host
	base    string   // the parent cgroup's folder
	dir     string   // its own folder
	enabled []string // controllers that this process enabled in base
	split   bool     // the cgroup has the children
}

// The names of the children.
const (
	vcpuChild = "vcpu"
	ioChild   = "io"
)

// Make creates the cgroup and moves this process, with all its threads, into it, until Close.
//
// If the host lacks something, the error names it and says what to do; it matches fs.ErrPermission,
// errors.ErrUnsupported or EBUSY, unless it comes from systemd. After an error the process is where
// it was, or in a scope that systemd made, and nothing else is left behind.
func Make(cfg Config) (*Group, error) {
	h, err := findHost()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keys(cfg.settings()), err)
	}
	h.startScope = systemd{h.uid}.startScope
	return h.make(cfg)
}

func (h host) make(cfg Config) (*Group, error) {
	if h.systemd {
		return h.makeUnderSystemd(cfg)
	}
	g, err := h.makeBelow(path.Join(h.mount, h.home), cfg)
	if err == nil || h.uid != 0 || h.home == "/" {
		return g, err
	}
	g, again := h.makeBelow(h.mount, cfg)
	if again != nil {
		return nil, errors.Join(err, again)
	}
	return g, nil
}

func (h host) makeBelow(base string, cfg Config) (*Group, error) {
	if err := h.usable(base, cfg); err != nil {
		return nil, err
	}
	defer h.lock(base)()
	h.recover(base)
	g := &Group{host: h, base: base}
	if err := g.enter(cfg.Name); err != nil {
		return nil, g.explain(err, cfg)
	}
	// The process has left base, so that controllers can be enabled for its children.
	err := g.enable(cfg)
	if err == nil {
		err = g.set(g.dir, cfg.Settings)
	}
	if err == nil {
		err = g.divide(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// mostNames limits how many machines may share a name, and how often enter tries again because
// another start removed its new cgroup.
const mostNames = 1000

// enter creates a cgroup with a free name and moves the process in.
func (g *Group) enter(name string) error {
	var err error
	for n := 1; n <= mostNames; n++ {
		g.dir = g.base + "/minivmm." + numbered(name, n)
		if err = g.mkdir(g.dir); errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = g.write(g.dir+"/cgroup.procs", "0") // 0 is the writing process
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
			continue // another start's recover removed it
		}
		return errors.Join(err, g.rmdir(g.dir))
	}
	return err
}

// numbered returns name, name.2, name.3 and so on.
func numbered(name string, n int) string {
	if n == 1 {
		return name
	}
	return name + "." + strconv.Itoa(n)
}

// enable enables the controllers for base's children.
func (g *Group) enable(cfg Config) error {
	file := g.base + "/cgroup.subtree_control"
	on, _ := g.read(file) // if this fails, so does the write, which reports it
	for _, c := range each(cfg.settings(), Setting.controller) {
		if slices.Contains(strings.Fields(on), c) {
			continue
		}
		if err := g.write(file, "+"+c); err != nil {
			return g.explain(err, cfg)
		}
		g.enabled = append(g.enabled, c)
	}
	return nil
}

// set writes settings to a cgroup.
func (g *Group) set(dir string, settings []Setting) error {
	for _, s := range settings {
		file := dir + "/" + s.File
		err := g.write(file, s.Value)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s: this kernel does not have %s: %w", s.Key, file, errors.ErrUnsupported)
		case err != nil:
			return fmt.Errorf("%s: write %q to %s: %w", s.Key, s.Value, file, err)
		}
	}
	return nil
}

// divide creates the children and moves all threads into io.
func (g *Group) divide(cfg Config) error {
	if len(cfg.VCPU)+len(cfg.IO) == 0 {
		return nil
	}
	g.split = true
	for _, child := range []string{vcpuChild, ioChild} {
		dir := g.dir + "/" + child
		if err := g.mkdir(dir); err != nil {
			return err
		}
		// The type must be set before controllers are enabled: a cgroup with processes can enable
		// a threaded controller only if it is the domain of threaded children.
		if err := g.write(dir+"/cgroup.type", "threaded"); err != nil {
			return err
		}
	}
	if err := g.control(g.dir, "+", each(slices.Concat(cfg.VCPU, cfg.IO), Setting.controller)); err != nil {
		return err
	}
	if err := errors.Join(g.set(g.dir+"/"+vcpuChild, cfg.VCPU), g.set(g.dir+"/"+ioChild, cfg.IO)); err != nil {
		return err
	}
	return g.write(g.dir+"/"+ioChild+"/cgroup.procs", "0") // the writing process, with all its threads
}

// Path returns the cgroup's folder, like /sys/fs/cgroup/minivmm.web.
func (g *Group) Path() string { return g.dir }

// EnterVCPU moves the calling thread, which must be locked, to the vCPUs' cgroup, if there is one.
func (g *Group) EnterVCPU() error {
	if !g.split {
		return nil
	}
	return g.write(g.dir+"/"+vcpuChild+"/cgroup.threads", "0")
}

// Close moves the process back to where it was, removes the cgroup, and disables the controllers
// that were enabled for it.
//
// If another machine still needs those controllers, the process cannot go back (again the "no
// internal processes" rule). The cgroup then stays until that machine stops or another one starts.
func (g *Group) Close() error {
	defer g.lock(g.base)()
	return g.close()
}

func (g *Group) close() error {
	if err := g.join(); err != nil {
		return err
	}
	g.recover(g.base)
	if names, err := g.list(g.base); err == nil && len(names) == 1 { // no other machine needs them
		if err := g.control(g.base, "-", g.enabled); err != nil {
			return err
		}
	}
	home := path.Join(g.mount, g.home)
	switch err := g.write(home+"/cgroup.procs", "0"); {
	case errors.Is(err, unix.EBUSY) && home == g.base:
		return nil
	case err != nil:
		return err
	}
	return g.removeSoon(g.dir)
}

// join undoes divide: it moves all threads back into dir and removes the children.
func (g *Group) join() error {
	if !g.split {
		return nil
	}
	if err := g.write(g.dir+"/cgroup.procs", "0"); err != nil {
		return err
	}
	for _, child := range []string{vcpuChild, ioChild} {
		if err := g.removeSoon(g.dir + "/" + child); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	on, err := g.read(g.dir + "/cgroup.subtree_control")
	if err != nil {
		return err
	}
	g.split = false
	return g.control(g.dir, "-", strings.Fields(on))
}

// control enables ("+") or disables ("-") controllers for dir's children.
func (g *Group) control(dir, sign string, controllers []string) error {
	for _, c := range controllers {
		if err := g.write(dir+"/cgroup.subtree_control", sign+c); err != nil {
			return err
		}
	}
	return nil
}

// emptied limits how long the kernel may take to clean up after exited threads. Until then they
// keep the cgroup in use.
const emptied = 5 * time.Second

func (g *Group) removeSoon(dir string) error {
	deadline := time.Now().Add(emptied)
	for pause := time.Millisecond; ; pause *= 2 {
		err := g.rmdir(dir)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// recover removes the cgroups that killed processes left in base. The kernel keeps those in use.
func (h host) recover(base string) {
	ours := regexp.MustCompile(`^minivmm\.[a-z0-9-]+(\.[0-9]{1,4})?$`) // as enter names them
	names, _ := h.list(base)                                           // if this fails, so does mkdir
	for _, name := range names {
		dir := base + "/" + name
		if !ours.MatchString(name) || isUnit(name) {
			continue
		}
		if events, err := h.read(dir + "/cgroup.events"); err != nil || !strings.Contains(events+"\n", "populated 0\n") {
			continue
		}
		_ = errors.Join(h.rmdir(dir+"/"+vcpuChild), h.rmdir(dir+"/"+ioChild), h.rmdir(dir))
	}
}
