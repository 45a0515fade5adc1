package vmm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"minivmm/vmm/config"
)

// chooseNet returns the backend of a NIC that is configured as "auto": vhost, if the NIC's other
// keys allow it and this process can use it. Otherwise it also returns the reason.
func chooseNet(n *config.Net, obstacle func() error) (config.NetBackend, string) {
	switch {
	case n.User() != "":
		return config.NetUser, n.User()
	case n.Tap != "" || n.Bridge != "" || n.Address.IsValid():
		return config.NetVhost, ""
	}
	if err := obstacle(); err != nil {
		return config.NetUser, err.Error()
	}
	return config.NetVhost, ""
}

// tapObstacle returns the reason why this process cannot use vhost-net on a tap that it creates, or
// nil.
func tapObstacle(in *config.Namespaces) error {
	if in.User && in.Net != config.NetNew {
		return errors.New("creating a tap requires CAP_NET_ADMIN in the user namespace that owns the network namespace; with namespaces.user, set namespaces.net = \"new\"")
	}
	for _, node := range []string{"/dev/vhost-net", "/dev/net/tun"} {
		// AT_EACCESS: check as open(2) does, with this process's capabilities.
		if err := unix.Faccessat(unix.AT_FDCWD, node, unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("creating a tap requires CAP_NET_ADMIN")
	}
	// In a container sysctls are read-only, so the host could not be protected from the guest.
	const sysctls = "/proc/sys/net/ipv4/conf/default/rp_filter"
	if err := unix.Faccessat(unix.AT_FDCWD, sysctls, unix.W_OK, unix.AT_EACCESS); errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%s: %w", sysctls, err)
	}
	return nil
}
