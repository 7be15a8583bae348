"""What the head tells people."""

from srcgcnn.launch.head import tunnel_command
from srcgcnn.launch.rendezvous import HeadAddress, LaunchRequest
from srcgcnn.launch.slurm_site import SlurmSite


def test_the_tunnel_goes_through_the_login_node(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    request = LaunchRequest(SlurmSite(), None, "login1.site.org")
    line = tunnel_command(request, HeadAddress("10.0.0.5:20000", "b", "17", "node5", 20002))
    assert line.startswith("ssh -N -L 20002:127.0.0.1:20002 -J ada@login1.site.org ada@node5")
