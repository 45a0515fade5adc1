package vmm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"minivmm/vmm/config"
)

// chooseNet returns the backend of a NIC that is configured as "auto": vhost where other keys do not
// exclude it and this process can have it. Otherwise it also says why not.
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

// tapObstacle is why this process cannot have vhost-net on a tap that it makes.
func tapObstacle(in *config.Namespaces) error {
	if in.User && in.Net != config.NetNew {
		return errors.New("a tap needs CAP_NET_ADMIN where the network namespace was made, and namespaces.user has it only with namespaces.net = \"new\"")
	}
	for _, node := range []string{"/dev/vhost-net", "/dev/net/tun"} {
		// AT_EACCESS: as open(2) will see it, with this process's capabilities.
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
		return errors.New("a tap needs CAP_NET_ADMIN, and it is not this user's")
	}
	// A container has its sysctls read-only, and then the host is not protected from the guest.
	const sysctls = "/proc/sys/net/ipv4/conf/default/rp_filter"
	if err := unix.Faccessat(unix.AT_FDCWD, sysctls, unix.W_OK, unix.AT_EACCESS); errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%s: %w", sysctls, err)
	}
	return nil
}
