#include "redis/hiredis.h"

#include "redis/connection.h"
#include "redis/link.h"
#include "redis/tls.h"

#if APIKEY_REDIS_TLS

#include <arpa/inet.h>

#include <cerrno>
#include <system_error>

#include "core/openssl_handles.h"
#include "pg/secret_file.h"

namespace apikey::redis {
namespace {

[[noreturn]] void refuse_file(const char* what, const std::string& path) {
    const char* reason = ERR_reason_error_string(ERR_peek_last_error());
    throw LinkError(std::string("TLS for Redis: ") + what + " \"" + path +
                    "\" cannot be used: " + (reason == nullptr ? "reason unknown" : reason));
}

void require_private(const std::string& path) {
    const pg::SecretFile file(path);
    if (!file.problem().empty()) {
        throw LinkError("TLS for Redis: the key file \"" + path + "\" " + file.problem());
    }
}

/** An encrypted key would make OpenSSL ask for a passphrase on a terminal that is not there. */
int no_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*data*/) {
    return 0;
}

bool is_address(const std::string& host) {
    in6_addr address{};
    return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
           inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

void require_accepted(Connection& connection, const SSL& ssl) {
    const long verified = SSL_get_verify_result(&ssl);
    if (verified != X509_V_OK) {
        connection.fail(std::string("TLS: its certificate is not accepted: ") +
                        X509_verify_cert_error_string(verified));
    }
}

}  // namespace

Tls::Tls(const LinkOptions& options) {
    const core::ErrorQueueGuard errors;
    ERR_clear_error();
    context_.reset(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX* const context = context_.get();
    if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        throw LinkError("TLS for Redis: OpenSSL cannot be set up");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    if (options.ca_file.empty()) {
        if (SSL_CTX_set_default_verify_paths(context) != 1) {
            throw LinkError("TLS for Redis: the system's certificates cannot be used");
        }
    } else if (SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr) != 1) {
        refuse_file("the CA file", options.ca_file);
    }
    if (options.certificate_file.empty() != options.key_file.empty()) {
        throw LinkError("TLS for Redis: a certificate and its key file are set both, or none of them");
    }
    if (!options.certificate_file.empty()) {
        if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
            refuse_file("the certificate file", options.certificate_file);
        }
        require_private(options.key_file);
        if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
            SSL_CTX_check_private_key(context) != 1) {
            refuse_file("the key file", options.key_file);
        }
    }
}

Tls::Handshake Tls::begin(Connection& connection, const std::string& host) const {
    const core::ErrorQueueGuard errors;
    const std::shared_ptr<SSL> ssl(SSL_new(context_.get()), SSL_free);
    if (!ssl) {
        connection.fail("out of memory");
    }
    const bool prepared = is_address(host)
                              ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host.c_str()) == 1
                              : SSL_set1_host(ssl.get(), host.c_str()) == 1 &&
                                    SSL_set_tlsext_host_name(ssl.get(), host.c_str()) == 1;
    if (!prepared) {
        connection.fail("TLS cannot be set up for this host");
    }
    // hiredis owns what it is given, if it takes it.
    SSL_up_ref(ssl.get());
    redisContext& context = connection.context()->c;
    // It begins the handshake, and comes to the certificate at once if the server is quick.
    if (redisInitiateSSL(&context, ssl.get()) != REDIS_OK) {
        SSL_free(ssl.get());
        require_accepted(connection, *ssl);
        connection.fail(std::string("TLS: ") + context.errstr);
    }
    return {connection, ssl};
}

Tls::Handshake::State Tls::Handshake::proceed() {
    const core::ErrorQueueGuard errors;
    errno = 0;
    const int result = SSL_do_handshake(ssl_.get());
    if (result == 1) {
        return State::done;
    }
    const int system_error = errno;
    switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
            return State::to_read;
        case SSL_ERROR_WANT_WRITE:
            return State::to_write;
        default:
            break;
    }
    require_accepted(connection_, *ssl_);
    const char* reason = ERR_reason_error_string(ERR_peek_last_error());
    if (reason == nullptr) {
        connection_.fail(
            "TLS: the connection was lost during the handshake" +
            (system_error == 0 ? std::string() : ": " + std::generic_category().message(system_error)));
    }
    connection_.fail(std::string("TLS: ") + reason);
}

}  // namespace apikey::redis

#else

namespace apikey::redis {

Tls::Tls(const LinkOptions& /*options*/) {
    const auto part = [](int number) { return std::to_string(number); };
    throw LinkError("TLS needs hiredis >= 1.0 with hiredis_ssl; this library was built with " +
                    part(HIREDIS_MAJOR) + "." + part(HIREDIS_MINOR) + "." + part(HIREDIS_PATCH));
}

Tls::Handshake Tls::begin(Connection& connection, const std::string& /*host*/) const {
    connection.fail("there is no TLS");
}

Tls::Handshake::State Tls::Handshake::proceed() {
    connection_.fail("there is no TLS");
}

}  // namespace apikey::redis

#endif
