package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"minivmm/guestimages/cache"
)

// Archive is the Debian archive that the machine's package sources describe, or one release on its
// mirror.
type Archive struct {
	cache *cache.Cache
	etc   string
	suite string   // a release, such as "trixie"; empty for the machine's own package sources
	base  *Archive // the archive whose mirror has the suite
}

// New returns the archive that the machine's package sources describe. It keeps packages in c.
func New(c *cache.Cache) *Archive { return NewAt(c, "/etc/apt") }

// NewAt is New with the package sources in etc, a folder like /etc/apt.
func NewAt(c *cache.Cache, etc string) *Archive { return &Archive{cache: c, etc: etc} }

// Suite returns the archive of a Debian release, such as "trixie", with its source packages. The
// release may differ from the machine's own. Its package lists come from the mirror that the
// machine's package sources name, and are kept apart from the machine's.
func (a *Archive) Suite(name string) *Archive {
	return &Archive{cache: a.cache, etc: a.etc, suite: name, base: a}
}

// state returns the name of the cache folder that holds the private sources and lists. The lock of
// the folder has the same name.
func (a *Archive) state() string {
	if a.suite != "" {
		return "apt-" + a.suite
	}
	return "apt"
}

// Cache returns the cache in which the archive keeps packages.
func (a *Archive) Cache() *cache.Cache { return a.cache }

// ErrNoApt is the error for a machine without apt-get.
var ErrNoApt = errors.New("debian: apt-get is not installed: kernels and tools come from Debian packages (amd64), so " +
	"use Debian, or fill the folder in " + cache.Env + " on a Debian machine")

// ToolError reports that one of the machine's package tools failed.
type ToolError struct {
	Tool, Verb string // "apt-get", "update"
	Err        error  // the tool's exit status, or the error from starting it
	Said       string // the tool's last lines of output
}

func (e *ToolError) Error() string {
	return fmt.Sprintf("debian: %s %s: %v\n%s", e.Tool, e.Verb, e.Err, e.Said)
}

func (e *ToolError) Unwrap() error { return e.Err }

// private adds the options that make an apt command use the private sources and lists.
func (a *Archive) private(args ...string) []string {
	user := ""
	if os.Geteuid() == 0 {
		// As root, apt would fetch as the user _apt, which cannot access root's cache.
		// Signatures are checked either way.
		user = "root"
	}
	state := a.cache.Path(a.state())
	return append(args,
		"-oDir::Etc::sourcelist=/dev/null",
		"-oDir::Etc::sourceparts="+filepath.Join(state, "sources"),
		"-oDir::State::lists="+filepath.Join(state, "lists"),
		"-oDir::Cache="+filepath.Join(state, "cache"),
		"-oAPT::Sandbox::User="+user,
		"-oAPT::Architecture=amd64",
		"-oAcquire::Languages=none", // no translated package descriptions
		"-q",
	)
}

// update writes the private sources and fetches their lists. The caller must hold state's lock.
func (a *Archive) update(ctx context.Context) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return ErrNoApt
	}
	state := a.cache.Path(a.state())
	sources := filepath.Join(state, "sources")
	if err := os.RemoveAll(sources); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	for _, dir := range []string{sources, filepath.Join(state, "lists/partial"), filepath.Join(state, "cache/archives/partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("debian: %w", err)
		}
	}
	if a.suite == "" {
		a.cache.Logf("reading Debian's package lists (once, seconds)")
		if err := copySources(a.etc, sources); err != nil {
			return err
		}
	} else {
		a.cache.Logf("reading the package lists of Debian %s (once, seconds)", a.suite)
		mirror, err := a.base.mirror(ctx)
		if err != nil {
			return fmt.Errorf("debian %s: %w", a.suite, err)
		}
		if err := os.WriteFile(filepath.Join(sources, "suite.sources"), []byte(suiteSources(mirror, a.suite)), 0o600); err != nil {
			return fmt.Errorf("debian: %w", err)
		}
	}
	return a.transfer(ctx, "", "package lists", "update")
}

// run runs a tool with a verb and its arguments, and returns its output. An error contains the last
// lines of the output.
func run(ctx context.Context, dir, tool string, args ...string) (string, error) {
	cmd := command(ctx, dir, tool, args)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", toolError(ctx, cmd, err, stderr.String()+stdout.String())
	}
	return stdout.String(), nil
}

func command(ctx context.Context, dir, tool string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	return cmd
}

func toolError(ctx context.Context, cmd *exec.Cmd, err error, said string) error {
	// If ctx is done, "signal: killed" is not the cause.
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	verb := cmd.Args[1:]
	if verb[0] == "-n" { // sudo's
		verb = verb[1:]
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	lines = lines[max(0, len(lines)-12):]
	return &ToolError{Tool: filepath.Base(cmd.Path), Verb: verb[0], Err: err, Said: strings.Join(lines, "\n")}
}
