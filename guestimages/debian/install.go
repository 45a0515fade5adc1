package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Install installs those of the named packages that this computer lacks. It runs apt-get, with sudo
// unless the user is root. The argument what names the task that requires the packages, for log
// lines and errors.
func (a *Archive) Install(ctx context.Context, what string, names ...string) error {
	var missing []string
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		if !installed(ctx, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	hint := fmt.Sprintf("%s requires these packages: %s", what, strings.Join(missing, " "))
	if _, err := exec.LookPath(asRoot("apt-get")[0]); err != nil {
		return fmt.Errorf("debian: %s", hint)
	}
	a.cache.Logf("installing packages (once): %s", hint)
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if aptGet(ctx, install...) == nil {
		return nil
	}
	// New installations and containers have no package lists yet.
	err := aptGet(ctx, "update")
	if err == nil {
		err = aptGet(ctx, install...)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, hint)
	}
	return nil
}

// aptGet runs apt-get as root with this computer's own package sources.
func aptGet(ctx context.Context, args ...string) error {
	command := asRoot(slices.Concat([]string{"apt-get"}, args, []string{"-q", "-oDPkg::Lock::Timeout=600"})...)
	_, err := run(ctx, "", command[0], command[1:]...)
	return err
}

// asRoot adds sudo to a command unless the user is root.
func asRoot(command ...string) []string {
	if os.Geteuid() == 0 {
		return command
	}
	return append([]string{"sudo", "-n"}, command...)
}

func installed(ctx context.Context, name string) bool {
	out, err := run(ctx, "", "dpkg-query", "-W", "-f", "${db:Status-Status}", name)
	return err == nil && strings.TrimSpace(out) == "installed"
}
