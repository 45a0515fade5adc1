package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Install installs those of the named packages that the machine lacks, using apt-get, and sudo if
// the user is not root. what names, for log lines and errors, the task that requires them.
func (a *Archive) Install(ctx context.Context, what string, names ...string) error {
	var missing []string
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		if !a.installed(ctx, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	command := append(asRoot(), "apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "-q", "--no-install-recommends")
	command = append(command, missing...)
	hint := fmt.Sprintf("%s requires these packages: %s", what, strings.Join(missing, " "))
	if _, err := exec.LookPath(command[0]); err != nil {
		return fmt.Errorf("debian: %s", hint)
	}
	a.cache.Logf("installing packages (once): %s", hint)
	_, err := a.run(ctx, "", command[0], command[1:]...)
	if err == nil {
		return nil
	}
	// New machines and containers have no package lists yet.
	update := append(asRoot(), "apt-get", "-o", "DPkg::Lock::Timeout=600", "update", "-q")
	if _, err := a.run(ctx, "", update[0], update[1:]...); err != nil {
		return fmt.Errorf("%w\n%s", err, hint)
	}
	if _, err := a.run(ctx, "", command[0], command[1:]...); err != nil {
		return fmt.Errorf("%w\n%s", err, hint)
	}
	return nil
}

func asRoot() []string {
	if os.Geteuid() == 0 {
		return nil
	}
	return []string{"sudo", "-n"}
}

func (a *Archive) installed(ctx context.Context, name string) bool {
	out, err := a.run(ctx, "", "dpkg-query", "-W", "-f", "${db:Status-Status}", name)
	return err == nil && strings.TrimSpace(string(out)) == "installed"
}
