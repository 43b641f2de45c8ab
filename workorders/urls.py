"""Addresses of the pages and their fragments."""

from django.urls import path

from workorders.accounts import account, sign_in
from workorders.views import changes, new_order, order_detail, orders, repositories, theme

ORDER = "work-orders/<str:agent_work_order_id>/"

urlpatterns = [
    path("", orders.order_list_page, name="home"),
    path("theme/", theme.choose_theme, name="theme"),
    path("work-orders/new/", new_order.new_order, name="work-order-new"),
    path(ORDER, order_detail.detail, name="work-order"),
    path(f"{ORDER}state/", order_detail.state, name="work-order-state"),
    path(f"{ORDER}feed/", order_detail.feed, name="work-order-feed"),
    path(f"{ORDER}prompt/", order_detail.prompt, name="work-order-prompt"),
    path(f"{ORDER}cancel/", order_detail.cancel, name="work-order-cancel"),
    path(f"{ORDER}retry/", order_detail.retry, name="work-order-retry"),
    path(f"{ORDER}continue/", order_detail.go_on, name="work-order-continue"),
    path(f"{ORDER}approve/", order_detail.approve, name="work-order-approve"),
    path(f"{ORDER}changes/", changes.changes, name="work-order-changes"),
    path(f"{ORDER}changes/<int:position>/", changes.changed_file, name="work-order-changed-file"),
    path("repositories/", repositories.repository_list, name="repositories"),
    path("repositories/<int:pk>/", repositories.repository, name="repository"),
    path(
        "repositories/<int:pk>/protected-paths/",
        repositories.protected_paths,
        name="repository-protected-paths",
    ),
    path(
        "repositories/<int:pk>/submodules-allowed/",
        repositories.submodules_allowed,
        name="repository-submodules-allowed",
    ),
    path("repositories/<int:pk>/state/", repositories.state, name="repository-state"),
    path("repositories/<int:pk>/issues/", repositories.issues, name="repository-issues"),
    path("repositories/<int:pk>/verify/", repositories.verify, name="repository-verify"),
    path("account/", account.account, name="account"),
    path("account/login/", sign_in.sign_in, name="sign-in"),
    path("account/logout/", sign_in.sign_out, name="sign-out"),
    path("account/password/", account.change_password, name="password"),
    path("account/keys/", account.create_key, name="api-key-new"),
    path("account/keys/<int:pk>/revoke/", account.revoke_key, name="api-key-revoke"),
]
